# shellcheck shell=bash
# What a line of methods.txt says, sourced after examples/common/options.sh:
# `read_arm "NAME | LABEL | TUNING | EVALUATION | MORE"` sets the variables name, label and the arrays tuning and
# evaluation, of flags. Without tuning, an arm evaluates the model of another one. MORE is words:
#
#   window=1/2    R in parts of L, with as many tokens a step    (variable window; 1/1)
#   saves=5       a checkpoint after each fifth of the steps     (saves; none on the way)
#   model=NAME    without tuning: whose model                    (model; base)
#   part=1/5      without tuning: after this part of its steps   (part; all of them)

BATCH=16 # windows of L tokens a step, in both examples

read_arm() {
    local more word kind
    local number='[1-9][0-9]{0,3}' own='^[A-Za-z0-9_]+$'
    IFS='|' read -r name label tuning evaluation more <<< "$1"
    read -r name <<< "$name"
    read -r label <<< "$label"
    read -ra tuning <<< "$tuning"
    read -ra evaluation <<< "$evaluation"
    window=1/1 saves='' model=base part=''
    [[ $name =~ $own ]] || refuse "arm '$name': a name has letters, digits and _ alone"
    [ "${#tuning[@]}" -eq 0 ] || model=$name
    for word in $more; do
        kind=without
        case $word in
            window=*) kind=with && window=${word#*=} && [[ $window =~ ^$number(/$number)?$ ]] ;;
            saves=*) kind=with && saves=${word#*=} && [[ $saves =~ ^$number$ ]] ;;
            model=*) model=${word#*=} && [[ $model =~ $own ]] ;;
            part=*) part=${word#*=} && [[ $part =~ ^$number/$number$ ]] ;;
            *) false ;;
        esac || refuse "arm $name: $word: there are window=1/2, saves=5, model=NAME and part=1/5"
        [[ $kind == with && ${#tuning[@]} -gt 0 || $kind == without && ${#tuning[@]} -eq 0 ]] \
            || refuse "arm $name: $word is for arms $kind tuning"
    done
    [[ $window == */* ]] || window+=/1
    # 64 is the smaller L.
    whole "$window" 64 && whole "${window#*/}/${window%/*}" "$BATCH" \
        || refuse "arm $name: window=$window: 64 tokens times it and $BATCH windows by it must be whole numbers"
}

# whole FRACTION NUMBER: whether their product is one
whole() { (($2 * ${1%/*} % ${1#*/} == 0)); }

# part_of FRACTION NUMBER: their product as a whole number from 1 on
part_of() {
    local part=$(($2 * ${1%/*} / ${1#*/}))
    echo $((part > 0 ? part : 1))
}
