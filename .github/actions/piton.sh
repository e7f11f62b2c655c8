#!/usr/bin/env bash
# Runs one piton command as a step of a CI job: installs piton where it is missing, keeps what it prints from giving
# commands to the runner, passes a cancellation on and waits for piton to write down what it has, and turns the answer
# into step outputs, a summary, annotations and an exit code.
#
# Everything comes in environment variables, never on a command line that a runner has filled in:
#   PITON_COMMAND      promote, tick or rollback
#   PITON_ENVIRONMENT  the environment; for tick any number of them, or none for all
#   PITON_TO  PITON_COMPONENT  PITON_REASON                     what the command's options say
#   PITON_WAIT  PITON_WATCH  PITON_ALL  PITON_NOW  PITON_NO_WAIT  PITON_BEGIN  PITON_DRY_RUN  PITON_NO_QUARANTINE   true or false
#   PITON_DIR  PITON_PIPELINE  PITON_ACTOR                      the deploy repository, its pipeline file, in whose name
#   PITON_BINARY       a piton to use; else one that is installed, else PITON_VERSION, else built from this repository
#   PITON_VERSION  PITON_SHA256                                 a release to install, and the checksum of its archive
# What comes out: the runner's files when there are any (GITHUB_OUTPUT, GITHUB_STEP_SUMMARY), and where PITON_DOTENV
# says so a file of NAME=value lines. The exit code is piton's own.
# Needs bash 4.4, git, jq and the usual small tools.
set -uo pipefail

readonly USAGE=2 STUCK=5
readonly SUMMARY_BYTES_MAX=1000000
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d "${RUNNER_TEMP:-${TMPDIR:-/tmp}}/piton-step.XXXXXXXX") || exit "$USAGE"
piton_pid='' signalled=0 fence=''

main() {
    trap 'rm -rf -- "$work"' EXIT
    trap 'pass_on' TERM INT HUP
    local -a arguments=()
    read_inputs
    find_piton
    run_piton
    read_answer
    write_outputs
    annotate
    summarize
    finish
}

on_github() { [ "${GITHUB_ACTIONS:-}" = true ]; }

random() { od -An -N20 -tx1 /dev/urandom | tr -d ' \n'; }

# --- words for the runner ---------------------------------------------------------------------------------------------

escaped() {
    local text=$1
    text=${text//'%'/'%25'}
    text=${text//$'\r'/'%0D'}
    printf '%s' "${text//$'\n'/'%0A'}"
}

escaped_property() {
    local text
    text=$(escaped "$1")
    text=${text//:/'%3A'}
    printf '%s' "${text//,/'%2C'}"
}

# annotation error|warning|notice TITLE MESSAGE [FILE LINE COLUMN]
annotation() {
    local place=''
    if on_github; then
        if [ -n "${4:-}" ]; then
            place="file=$(escaped_property "$4"),line=$(escaped_property "${5:-1}"),col=$(escaped_property "${6:-1}"),"
        fi
        printf '::%s %stitle=%s::%s\n' "$1" "$place" "$(escaped_property "$2")" "$(escaped "$3")"
    else
        printf '%s: %s: %s\n' "$1" "$2" "$3" >&2
    fi
}

refuse() {
    annotation error 'piton: usage' "$1"
    exit "$USAGE"
}

# Between these two the runner takes no commands: what others have printed stays text.
begin_fence() {
    if on_github && [ -z "$fence" ]; then
        fence=$(random)
        printf '::stop-commands::%s\n' "$fence"
    fi
}

end_fence() {
    if [ -n "$fence" ]; then
        # What came before may not have ended its line.
        printf '\n::%s::\n' "$fence"
        fence=''
    fi
}

# --- what to run ------------------------------------------------------------------------------------------------------

# flag INPUT-VALUE OPTION
flag() {
    case ${1:-false} in
    true) arguments+=("$2") ;;
    false | '') ;;
    *) refuse "\`$2\` is switched on with \`true\` or off with \`false\`, not with \`$1\`" ;;
    esac
}

# The `=` keeps a value that begins with a dash from being an option.
option() {
    if [ -n "${1:-}" ]; then
        arguments+=("$2=$1")
    fi
}

read_inputs() {
    local command=${PITON_COMMAND:-}
    local -a environments=()
    read -r -d '' -a environments <<<"${PITON_ENVIRONMENT:-}"
    case $command in
    promote)
        option "${PITON_TO:-}" --to
        flag "${PITON_WAIT:-}" --wait
        flag "${PITON_WATCH:-}" --watch
        flag "${PITON_ALL:-}" --all
        flag "${PITON_NOW:-}" --now
        flag "${PITON_NO_WAIT:-}" --no-wait
        ;;
    tick)
        flag "${PITON_BEGIN:-}" --promote
        ;;
    rollback)
        option "${PITON_TO:-}" --to
        option "${PITON_COMPONENT:-}" --component
        option "${PITON_REASON:-}" --reason
        flag "${PITON_DRY_RUN:-}" --dry-run
        flag "${PITON_NO_QUARANTINE:-}" --no-quarantine
        ;;
    *) refuse "PITON_COMMAND is promote, tick or rollback, not \`$command\`" ;;
    esac
    if [ "$command" != tick ] && [ "${#environments[@]}" -ne 1 ]; then
        refuse "$command takes one environment, not ${#environments[@]}"
    fi
    cd -- "${PITON_DIR:-.}" || refuse "there is no folder \`${PITON_DIR:-.}\`"
    arguments=("$command" --json "${arguments[@]}" -- "${environments[@]}")
    # An input that was left out is an empty variable, which is not the same as none.
    [ -n "${PITON_PIPELINE:-}" ] || unset PITON_PIPELINE
    [ -n "${PITON_ACTOR:-}" ] || unset PITON_ACTOR
    if [ -z "${PITON_ACTOR:-}" ] && [ -n "${GITHUB_ACTOR:-}" ]; then
        export PITON_ACTOR=$GITHUB_ACTOR
    fi
}

find_piton() {
    command -v jq >/dev/null || refuse 'this step needs `jq` to read the answer'
    if [ -n "${PITON_BINARY:-}" ]; then
        piton=$PITON_BINARY
    elif [ -n "${PITON_VERSION:-}" ]; then
        install_release
    elif piton=$(command -v piton); then
        :
    else
        build
    fi
    if [ ! -x "$piton" ]; then
        refuse "there is no program \`$piton\`"
    fi
}

# A release is used only when its archive is, to the bit, the one that was pinned.
install_release() {
    local base=${PITON_RELEASES:-https://github.com/${GITHUB_ACTION_REPOSITORY:-}/releases/download}
    local archive="$work/piton.tar.gz" name
    if [ -z "${PITON_SHA256:-}" ]; then
        refuse 'a version needs the checksum of its archive beside it: `sha256`'
    fi
    name="piton-$(uname -m)-unknown-linux-musl.tar.gz"
    if ! curl --fail --silent --show-error --location --proto '=https,file' --max-time 120 --retry 3 \
        --output "$archive" -- "$base/v${PITON_VERSION#v}/$name"; then
        annotation error 'piton: install' "cannot download piton $PITON_VERSION"
        exit 75
    fi
    if ! printf '%s  %s\n' "$PITON_SHA256" "$archive" | sha256sum --check --status; then
        refuse "the archive of piton $PITON_VERSION does not have the checksum $PITON_SHA256"
    fi
    tar -xzf "$archive" -C "$work" --no-same-owner piton || refuse "the archive of piton $PITON_VERSION holds no piton"
    piton="$work/piton"
}

build() {
    local root="${RUNNER_TEMP:-${XDG_CACHE_HOME:-$HOME/.cache}}/piton-build"
    piton="$root/bin/piton"
    if [ -x "$piton" ]; then
        return
    fi
    begin_fence
    cargo install --locked --quiet --root "$root" --path "$here/../.."
    local built=$?
    end_fence
    [ "$built" -eq 0 ] || refuse 'piton is not installed and cannot be built; is there a Rust toolchain?'
}

# --- running it -------------------------------------------------------------------------------------------------------

pass_on() {
    signalled=1
    if [ -n "$piton_pid" ]; then
        kill -TERM "$piton_pid" 2>/dev/null
    else
        exit 75
    fi
}

# What piton says to people goes to the log as it comes, its answer to a file. A runner kills a step some ten seconds
# after a cancellation: piton needs one of them.
run_piton() {
    local waited
    begin_fence
    "$piton" "${arguments[@]}" >"$work/stdout" </dev/null &
    piton_pid=$!
    # A cancellation that came before the line above.
    [ "$signalled" -eq 0 ] || kill -TERM "$piton_pid" 2>/dev/null
    code=''
    while :; do
        signalled=0
        wait "$piton_pid"
        waited=$?
        # A signal ends the wait before the child has ended. Of a child that is gone a second wait knows nothing.
        if [ "$waited" -eq 127 ] && [ -n "$code" ]; then
            break
        fi
        code=$waited
        [ "$signalled" -eq 1 ] || break
    done
    # All but the answer is for people too; a process that piton left behind cannot add to it any more.
    sed '$d' "$work/stdout"
    end_fence
}

# --- what it answered -------------------------------------------------------------------------------------------------

# Everything the step needs of the answer, in one go: the parts end with U+001E, which no part holds.
readonly PARTS='
def text: (if type == "string" then . elif . == null then "" else tojson end) | gsub("[\u0000\u001e]"; " ");
def cell: text | gsub("[\u0001-\u001f]+"; " ") | gsub("&"; "&amp;") | gsub("<"; "&lt;") | gsub(">"; "&gt;")
    | gsub("@"; "@\u200b") | gsub("(?<c>[|`*_\\[\\]\\\\~#!])"; "\\\(.c)") | .[:400];
def quiet: . == "up_to_date" or . == "nothing_to_do" or . == "already_there";
if type == "object" and .schema_version == 1 and (.decision | type == "string") then . else error("no answer") end
| ([.environments | objects | to_entries[]]) as $each | (.commit // .good) as $commit
| (.message // .cause // ($each | map("\(.key): \(.value.reason_code?)") | join(", "))) as $message
| ([.decision, .reason_code, .environment, $commit, .attempt, $message, .hint // .advice] | map(text))
+ ([.environment, .decision, .reason_code, $message, $commit] | map(cell))
+ [[{key: .environment, value: .}] + $each | map(select(.value.reason_code? | quiet | not).key | text) | join("\n")]
+ ([.faults[]?] | .[:10] | map(.file, .line, .column, .message) | map(text))
| .[] + "\u001e"'

read_answer() {
    answer=$(tail -n 1 "$work/stdout")
    mapfile -t -d $'\x1e' part < <(printf '%s' "$answer" | jq -j "$PARTS" 2>/dev/null)
    if [ "${#part[@]}" -eq 0 ]; then
        # No answer is no success: nobody knows what is live.
        [ "$code" -ne 0 ] || code=$STUCK
        answer="{\"schema_version\":1,\"decision\":\"failure\",\"reason_code\":\"no_answer\",\"exit_code\":$code}"
        part=(failure no_answer '' '' '' "piton ended with $code and gave no answer" '' '' failure 'no\_answer' '' '' '')
    fi
    decision=${part[0]} reason=${part[1]} environment=${part[2]} commit=${part[3]} attempt=${part[4]}
    message=${part[5]} hint=${part[6]} cells=("${part[@]:7:5}") names=${part[12]} faults=("${part[@]:13}")
}

# put NAME VALUE
put() {
    local delimiter
    if [ -n "${GITHUB_OUTPUT:-}" ]; then
        delimiter=piton_$(random)
        printf '%s<<%s\n%s\n%s\n' "$1" "$delimiter" "$2" "$delimiter" >>"$GITHUB_OUTPUT"
    fi
    if [ -n "${PITON_DOTENV:-}" ]; then
        local line=${2//$'\n'/ }
        printf 'PITON_%s=%s\n' "$(printf '%s' "$1" | tr 'a-z-' 'A-Z_')" "${line//$'\r'/ }" >>"$PITON_DOTENV"
    fi
}

write_outputs() {
    [ -z "${PITON_DOTENV:-}" ] || : >"$PITON_DOTENV"
    put decision "$decision"
    put reason_code "$reason"
    put exit_code "$code"
    put environment "$environment"
    put commit "$commit"
    put attempt "$attempt"
    put message "$message"
    put json "$answer"
}

annotate() {
    local words="${message:-$reason}${hint:+$'\n'hint: $hint}" where="${environment:+ ($environment)}" at
    case $code in
    0) ;;
    1) annotation error "piton: rolled back$where" "$words" ;;
    2) annotation error "piton: usage or configuration$where" "$words" ;;
    3) annotation notice "piton: changes pending$where" "$words" ;;
    4) annotation warning "piton: refused by policy$where" "$words" ;;
    5) annotation error "piton: STUCK, a person must act$where" "$words" ;;
    75) annotation warning "piton: try again$where" "$words" ;;
    *) annotation error "piton: ended with $code$where" "$words" ;;
    esac
    # Faults of a pipeline file, each at its place; a runner shows some ten.
    for ((at = 0; at + 3 < ${#faults[@]}; at += 4)); do
        annotation error 'piton: pipeline' "${faults[at + 3]}" "${faults[@]:at:3}"
    done
}

# --- the summary ------------------------------------------------------------------------------------------------------

summarize() {
    local page="$work/summary" name
    [ -n "${GITHUB_STEP_SUMMARY:-}" ] || return 0
    {
        printf '| piton %s | |\n|--|--|\n' "$PITON_COMMAND"
        printf '| environment | %s |\n| decision | %s |\n| reason | %s |\n' "${cells[@]:0:3}"
        printf '| what was said | %s |\n| last known good | %s |\n\n' "${cells[@]:3:2}"
    } >"$page"
    if has_a_story; then
        while read -r name; do
            [ -z "$name" ] || timeout 30 "$piton" show --markdown -- "$name" >>"$page" 2>/dev/null </dev/null || :
        done <<<"$names"
    fi
    head -c "$SUMMARY_BYTES_MAX" "$page" >>"$GITHUB_STEP_SUMMARY"
    picture
}

# A cancelled step has seconds left, and the story is worth none of them; what went back, or left something behind, is told.
has_a_story() {
    case $code/$reason in
    75/paused | 75/left_behind) ;;
    "$USAGE"/* | 75/*) return 1 ;;
    esac
}

# A picture of the gates, for whoever uploads it.
picture() {
    local to="${RUNNER_TEMP:-}/piton-gates.svg"
    [ -n "${RUNNER_TEMP:-}" ] && [ -n "$environment" ] && has_a_story || return 0
    if timeout 30 "$piton" show --svg="$to" -- "$environment" >/dev/null 2>&1 </dev/null && [ -s "$to" ]; then
        put picture "$to"
    fi
}

finish() { exit "$code"; }

main
