#!/usr/bin/env bash
# Call the router from a shell, with grpcurl (https://github.com/fullstorydev/grpcurl).
#
# Start a node in another terminal (`hola node`), then:
#
#     examples/grpcurl.sh 127.0.0.1:7070
set -euo pipefail
address=${1:-127.0.0.1:7070}
protos=$(dirname "${BASH_SOURCE[0]}")/../proto
question='Tom has 12 apples. He buys 5 more and gives 3 to Anna. How many apples does Tom have?'

# Which services are there? Asked over reflection, which is on while callers are not authenticated.
grpcurl -plaintext "$address" list

# One JSON document per event. With the protos at hand no reflection is needed.
grpcurl -plaintext -import-path "$protos" -proto hola/v1/router.proto \
  -d "{\"messages\": [{\"role\": \"user\", \"content\": \"$question\"}]}" \
  "$address" hola.v1.RouterService/Generate
