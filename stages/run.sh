# dvc.yaml runs a stage with `exec sh stages/run.sh fetch corpus`, a line that every user's shell understands.
# `exec` leaves no shell between dvc and the stage, which ends with dvc (cola/core/processes.py).
# A stage runs in .venv, or without it in PATH's Python, such as conda's or a container's.
python="${DVC_ROOT:-.}/.venv/bin/python"
if [ ! -x "$python" ]; then
  python=python3
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "error: a stage needs .venv, or Python 3.11 or newer as python3 on PATH: run \`make .venv\`, and this again" >&2
    exit 1
  }
fi
stage=$1
shift
# The first would hide the project's modules. With the second, which containers often set, each stage would compile the
# packages' code anew, for seconds. The third would remove docstrings, which transformers reads.
unset PYTHONSAFEPATH PYTHONDONTWRITEBYTECODE PYTHONOPTIMIZE
DVC_PID=$PPID exec "$python" -m "stages.$stage" "$@"
