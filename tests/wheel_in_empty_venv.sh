#!/usr/bin/env bash
# The built wheel in an empty environment without torch: check, summary, compile, run, train.
# Usage: tests/wheel_in_empty_venv.sh PYTHON FOLDER
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=$1
folder=$2

"$python" -m build --wheel --outdir "$folder/dist" "$root"
"$python" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet "$folder"/dist/cnnc-*.whl scikit-learn
cd "$folder" # away from the checkout, so that only the installed package is found
cnnc=venv/bin/cnnc
if venv/bin/python -c 'import torch' 2>/dev/null; then
    echo 'torch crept in' >&2
    exit 1
fi
model=$(venv/bin/python -c 'from cnnc.resources import resource; print(resource("models", "lenet5.cnn"))')
case $model in
*/_data/models/lenet5.cnn) ;;
*) echo "the model is not the wheel's: $model" >&2 && exit 1 ;;
esac
cp "$model" lenet5.cnn
$cnnc check lenet5.cnn
$cnnc summary lenet5.cnn
$cnnc compile lenet5.cnn -o built --target sm_90
venv/bin/python -c 'import numpy; numpy.save("x.npy", numpy.zeros((3, 32, 32, 1), "float32"))'
$cnnc train lenet5.cnn --data digits --epochs 1 --out trained
$cnnc run lenet5.cnn --input x.npy --weights trained/best.safetensors -o y.npy
venv/bin/python -c 'import numpy; assert numpy.load("y.npy").shape == (3, 10)'
