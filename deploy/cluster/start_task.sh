#!/bin/bash
# What a node does before its first task. It runs again whenever the node is replaced, as root, in
# the folder into which Batch put environment.tar.gz. RECSYS_VENV is a ready environment of the
# image; without it the pinned environment and Java are installed into the node's shared folder.
set -euo pipefail

if [ -n "${RECSYS_VENV:-}" ]; then
    if ! "$RECSYS_VENV/bin/python" -c 'from importlib.metadata import version; version("mlflow"), version("pyspark")'; then
        echo "error: $RECSYS_VENV is not the project's environment: correct pool.environment" >&2
        exit 1
    fi
    [ -n "${JAVA_HOME:-}" ] || command -v java > /dev/null || {
        echo "error: the image has no Java 17: install it, or set pool.environment=install" >&2
        exit 1
    }
    exit 0
fi

home="$AZ_BATCH_NODE_SHARED_DIR/recsys"
mkdir -p "$home/environment"
tar -xzf environment.tar.gz -C "$home/environment"
cd "$home/environment"
python3 deploy/environment.py --venv "$home/venv"
chmod -R a+rX "$home"
