# shellcheck shell=bash
# The options of a script, sourced: `take_options "--out=text --ranks=count --dry-run=switch" "$@"` sets the variables
# out, ranks and dry_run, which hold their defaults before. A mistake is one line and exit code 2.
#
# Kinds: text; count, a whole number from 1 on; number, from 0 on; counts and numbers, several as one word; switch,
# which takes no value and becomes 1. With a last `--`, what follows such a word goes into the array `rest`.
# --help calls the script's function usage. Numbers are checked wherever they are from; an empty one is left alone.

rest=()

refuse() { echo "error: $1" >&2 && exit 2; }

print_command() { printf '%q ' "$@" && echo; }

take_options() {
    local word kind variable declared=" $1 "
    shift
    while [ $# -gt 0 ]; do
        word=$1
        shift
        case $word in
            -h | --help) usage && exit 0 ;;
            --) [[ $declared != *" -- "* ]] || { rest=("$@") && break; } ;;
        esac
        kind=${declared#*" $word="}
        [[ $word == --?* && $kind != "$declared" ]] || refuse "unknown option $word; see --help"
        variable=${word#--}
        if [ "${kind%% *}" = switch ]; then
            printf -v "${variable//-/_}" 1
            continue
        fi
        [[ $# -gt 0 && (-n $1 || ${kind%% *} == text) ]] || refuse "$word needs a value"
        printf -v "${variable//-/_}" %s "$1"
        shift
    done
    for word in $declared; do
        kind=${word#*=} word=${word%%=*} variable=${word#--}
        variable=${variable//-/_}
        [ "$word" = -- ] || _check_option "$word" "$kind" "${!variable}"
    done
}

# _check_option OPTION KIND VALUE
_check_option() {
    local value words=() pattern='^[1-9][0-9]{0,17}$' least=1
    [ -n "$3" ] || return 0
    [[ $2 != number* ]] || { pattern='^(0|[1-9][0-9]{0,17})$' && least=0; }
    case $2 in
        count | number)
            [[ $3 =~ $pattern ]] || refuse "$1 $3: must be a whole number from $least on"
            ;;
        counts | numbers)
            read -ra words <<< "$3"
            for value in "${words[@]:-none}"; do
                [[ $value =~ $pattern ]] || refuse "$1 $3: must be whole numbers from $least on, as one word"
            done
            ;;
    esac
}
