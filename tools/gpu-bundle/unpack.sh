#!/bin/sh
# unpack.sh PARTS BUNDLE: unpacks every archive of which all pieces are below the folder PARTS, and removes the pieces.
set -e
mkdir -p "$2"
for first in $(find "$1" -name '*.tgz-01-of-*' | sort); do
  name=$(basename "$first") && name=${name%-01-of-*}
  pieces=$(find "$1" -name "$name-*" | sort)
  have=$(echo "$pieces" | wc -l) && want=${first##*-of-}
  if [ "$have" -eq "$want" ]; then
    cat $pieces | tar -xz -C "$2"
    rm $pieces
    echo "$name: unpacked"
  else
    echo "$name: $have of $want pieces"
  fi
done
