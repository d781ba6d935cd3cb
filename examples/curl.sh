#!/usr/bin/env bash
# Blipline over HTTP with curl (7.76 or newer), and Python to read JSON.
#
#   export BLIPLINE_GATEWAY=http://127.0.0.1:8000
#   export BLIPLINE_API_KEY=blip_…     # blipline keys create shell
#   ./curl.sh cat.jpg dog.jpg
set -euo pipefail

[ $# -gt 0 ] || { echo "usage: ./curl.sh PICTURE..." >&2; exit 2; }
for picture in "$@"; do
    [ -r "$picture" ] || { echo "$picture: no such file, or it is not readable" >&2; exit 2; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The key is in a file: all users of this machine can read command lines.
(umask 077 && printf 'Authorization: Bearer %s\n' "$BLIPLINE_API_KEY" >"$work/key")

# `call PATH …` writes the response to a file. It retries responses of 429 and 503 after the seconds
# of Retry-After, and prints the response of an invalid request.
call() {
    path=$1; shift
    curl --silent --show-error --fail-with-body --retry 5 --header "@$work/key" \
        --output "$work/answer" "$@" "$BLIPLINE_GATEWAY$path" || { cat "$work/answer" >&2; exit 1; }
}
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1" <"$work/answer"; }
json="Content-Type: application/json"

echo "== upload"
for picture in "$@"; do
    call /v1/images --data-binary "@$picture" -H "Content-Type: application/octet-stream"
    image=$(field image)
    echo "$picture is $image"
    printf '{"custom_id": "%s", "image": "%s"}\n' "${picture##*/}" "$image" >>"$work/items.jsonl"
done
# An invalid line becomes an error in its place; the others go on.
echo '{"custom_id": "no picture", "image": "blob:0"}' >>"$work/items.jsonl"

echo "== a caption, with a wait for its result"
call /v1/jobs -H "$json" -H "Prefer: wait=30" --data '{"task": "caption", "image": "'"$image"'"}'
cat "$work/answer"; echo

echo "== a question under an id of our own: sent twice, it is one job"
question='{"task": "vqa", "image": "'"$image"'", "question": "what color is the background?"}'
for _ in 1 2; do
    call "/v1/jobs/question-$$" -X PUT -H "$json" -H "Prefer: wait=30" --data "$question"
    cat "$work/answer"; echo
done

echo "== a batch"
call "/v1/batches?task=caption" --data-binary "@$work/items.jsonl" -H "Content-Type: application/jsonl"
batch=/v1/batches/$(field id)
echo "$batch"

echo "== its events, until its end"
curl --silent --show-error --fail --no-buffer --header "@$work/key" \
    "$BLIPLINE_GATEWAY$batch/events?results=false"

echo "== its results, in the order of its lines"
call "$batch/results"
cat "$work/answer"

echo "== its failed items"
call "$batch/errors"
cat "$work/answer"

call "$batch" -X DELETE
