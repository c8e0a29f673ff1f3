"""Whoever called sudo: what a script makes in the tree behind it stays theirs."""
import os
import pathlib
import pwd

TOP = pathlib.Path(__file__).resolve().parents[2]


def uid() -> int | None:
    """None: there was no sudo, or the tree is not the caller's."""
    named = os.environ.get("SUDO_UID", "")
    return int(named) if os.geteuid() == 0 and named.isdecimal() and int(named) and TOP.stat().st_uid == int(named) else None


def as_caller() -> dict:
    """Words for Popen with which a command runs as the caller, with the caller's home and no group of root's."""
    user = uid()
    if user is None:
        return {}
    entry = pwd.getpwuid(user)
    return {"user": user, "group": entry.pw_gid, "extra_groups": os.getgrouplist(entry.pw_name, entry.pw_gid),
            "env": {**os.environ, "HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name}}


def give_back(where: pathlib.Path) -> None:
    """Everything below `where` that root made meanwhile, and `where` itself. Links are not followed."""
    user = uid()
    if user is None:
        return
    group = pwd.getpwuid(user).pw_gid
    for directory, directories, names in os.walk(where):
        for path in (directory, *(os.path.join(directory, name) for name in directories + names)):
            if os.lstat(path).st_uid == 0:
                os.chown(path, user, group, follow_symlinks=False)
