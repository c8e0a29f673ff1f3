# bash completion for postern(8). Commands and keywords as cli/words.cpp has them (tests/cli/completion_test.bash compares).

_postern_run_directory=${_postern_run_directory:-/run/postern}

# Words that may follow "$*", one a line. Given words may be unique prefixes.
_postern_next() {
  local -a commands=(
    "show access-lists" "show ip access-lists" "show crypto map" "show crypto dynamic-map" "show crypto ipsec sa" "show crypto ipsec transform-set" "show crypto session"
    "show interface tunnel" "show dataplane"
    "show crypto ikev2 sa" "show crypto ikev2 session" "show crypto ikev2 proposal" "show crypto ikev2 policy"
    "show crypto ikev2 profile" "show crypto ikev2 diagnose" "show crypto pki certificates" "show crypto pki trustpoints" "show crypto isakmp sa" "show crypto isakmp peers"
    "show ike" "clear crypto sa" "clear crypto session" "crypto session connect" "crypto session rekey" "crypto session redirect" "crypto pki bundle" "debug crypto ikev2"
    "no debug crypto ikev2" "undebug all" "config check" "config convert" "config show" "config diff" "config apply" "config confirm" capture stop teardown)
  local command word i
  for command in "${commands[@]}"; do
    local -a words=($command)
    i=0
    for word in "$@"; do
      [[ -n ${words[i]-} && ${words[i]} == "$word"* ]] || continue 2
      ((i++))
    done
    [[ -n ${words[i]-} ]] && echo "${words[i]}"
  done | sort -u
}

# Keywords behind a whole command.
_postern_keywords() {
  case "$*" in
    s*\ c*\ m*) echo tag interface ;;
    s*\ c*\ ip*\ s*) echo interface map peer ;;
    s*\ c*\ ip*\ t*) echo tag ;;
    s*\ c*\ ik*\ s*) echo detail peer ;;
    s*\ c*\ ik*\ d*) echo peer ;;
    s*\ c*\ d*) echo tag ;;
    s*\ c*\ s*) echo detail interface peer ;;
    cl*\ c*\ se*) echo interface map peer ;;
    cl*\ c*\ s*) echo entry interface map peer spi ;;
    cr*\ s*\ c*) echo interface map peer sequence ;;
    cr*\ s*\ rek*) echo interface map peer ;;
    cr*\ s*\ red*) echo interface map peer to ;;
  esac
}

_postern() {
  local cur=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} i
  local -a words=()
  COMPREPLY=()
  case $previous in
    --node) COMPREPLY=($(compgen -W "$(ls "$_postern_run_directory" 2>/dev/null)" -- "$cur")); return ;;
    --side) COMPREPLY=($(compgen -W "plain cipher both" -- "$cur")); return ;;
    -w | --write | check | convert | diff | apply) COMPREPLY=($(compgen -f -- "$cur")); return ;;
    --keys) COMPREPLY=($(compgen -d -- "$cur")); return ;;
    -c | --count | -t | --time | --confirm | --interface) return ;;
  esac
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
      --node | --side | -w | --write | -c | --count | -t | --time | --confirm | --interface | --keys) ((i++)) ;;
      -*) ;;
      *) words+=("${COMP_WORDS[i]}") ;;
    esac
  done
  if [[ $cur == -* ]]; then
    local options="--node --json --help --version"
    [[ ${words[0]-} == cap* ]] && options+=" --side --count --time --write"
    [[ ${words[0]-} == conf* ]] && options+=" --skip-secrets"
    [[ ${words[0]-} == conf* && ${words[1]-} == conv* ]] && options+=" --interface --keys"
    [[ ${words[0]-} == conf* && ${words[1]-} == a* ]] && options+=" --confirm"
    COMPREPLY=($(compgen -W "$options" -- "$cur"))
    return
  fi
  local next
  next=$(_postern_next "${words[@]}")
  [[ -n $next ]] || next=$(_postern_keywords "${words[@]}")
  COMPREPLY=($(compgen -W "$next" -- "$cur"))
}

complete -o filenames -F _postern postern
