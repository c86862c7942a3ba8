#!/bin/sh
# Builds llama.cpp's quantizers (libggml-base, no model code) for `hola bench compression`.
#   bench/peers/ggml.sh FOLDER      then: export LIBGGML_BASE=FOLDER/libggml-base.so
# Needs pip, cmake, a C++ compiler; one to two minutes of CPU. Not a dependency of HOLA.
set -eu
out=${1:?usage: ggml.sh FOLDER}
mkdir -p "$out"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python -m pip download --quiet --no-deps --no-binary llama-cpp-python \
    --dest "$scratch" 'llama-cpp-python>=0.3.36,<0.4'
tar -xzf "$scratch"/llama_cpp_python-*.tar.gz -C "$scratch"
source=$(echo "$scratch"/llama_cpp_python-*/vendor/llama.cpp/ggml)
# On its own ggml would also build its tests, which this source distribution leaves out; as a part of a project it does not.
cat >"$scratch/CMakeLists.txt" <<EOF
cmake_minimum_required(VERSION 3.14)
project(peers C CXX)
add_subdirectory("$source" ggml)
EOF
cmake -S "$scratch" -B "$scratch/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON >/dev/null
cmake --build "$scratch/build" --target ggml-base --parallel 2 >/dev/null
library=$(find "$scratch/build" -name 'libggml-base.so*' -type f | head -n 1)
cp "$library" "$out/libggml-base.so"
echo "$out/libggml-base.so"
