#!/usr/bin/env bash
# Completion offers what the command line takes. Usage: completion_test.bash COMPLETION POSTERN
set -u
source "$1" || exit 1
failed=0

# offers LINE WORDS
offers() {
  local line=$1 wanted=$2
  COMP_WORDS=($line)
  [[ $line == *' ' ]] && COMP_WORDS+=('')
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  _postern
  local got="${COMPREPLY[*]}"
  [[ $got == "$wanted" ]] && return
  echo "\"$line\": offered \"$got\", not \"$wanted\""
  failed=1
}

offers "postern " "capture clear config crypto debug no show stop teardown undebug"
offers "postern s" "show stop"
offers "postern sh " "access-lists crypto dataplane ike interface ip"
offers "postern sh ip " "access-lists"
offers "postern sh cry " "dynamic-map ikev2 ipsec isakmp map pki session"
offers "postern --node N1 --json show crypto ips" "ipsec"
offers "postern sh cry ips sa " "interface map peer"
offers "postern show crypto map " "tag interface"
offers "postern clear crypto sa " "entry interface map peer spi"
offers "postern clear crypto session " "interface map peer"
offers "postern crypto session connect " "interface map peer sequence"
offers "postern crypto session rekey " "interface map peer"
offers "postern crypto session redirect " "interface map peer to"
offers "postern crypto " "pki session"
offers "postern crypto pki " "bundle"
offers "postern sh cry sess " "detail interface peer"
offers "postern sh cry ikev2 sess " "detail peer"
offers "postern sh cry ikev2 " "diagnose policy profile proposal sa session"
offers "postern capture --side " "plain cipher both"
offers "postern capture --s" "--side"
offers "postern show --s" ""
offers "postern nonsense " ""
_postern_run_directory=$(mktemp -d)
mkdir "$_postern_run_directory/N1" "$_postern_run_directory/N2"
offers "postern --node " "N1 N2"
rm -r "$_postern_run_directory"

# Every command of --help can be completed to its end.
while read -r command; do
  words=()
  for word in $command; do
    [[ $word =~ ^[a-z0-9-]+$ ]] || break
    _postern_next "${words[@]}" | grep -qx "$word" || { echo "\"$command\": \"$word\" is not offered"; failed=1; }
    words+=("$word")
  done
  for keyword in $(grep -o '\[[a-z]* NAME\]' <<<"$command" | tr -d '[' | cut -d' ' -f1); do
    _postern_keywords "${words[@]}" | grep -qw "$keyword" || { echo "\"$command\": keyword $keyword is not offered"; failed=1; }
  done
done < <("$2" --help | sed -n '/^Commands/,/^Exit/p' | grep '^  ' | sed 's/   .*//; s/^ *//')
exit $failed
