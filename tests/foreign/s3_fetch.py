"""Saves objects as they are stored, each with its metadata: s3_fetch.py URL BUCKET PREFIX DIR

For each key NAME under PREFIX there will be DIR/NAME and DIR/NAME.metadata.json. Credentials come
from the environment, as boto3 takes them.
"""

import json
import sys
from pathlib import Path

import boto3
from botocore.config import Config


def main() -> None:
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    url, bucket, prefix, directory = sys.argv[1:]
    directory = Path(directory)
    s3 = boto3.client("s3", endpoint_url=url, config=Config(s3={"addressing_style": "path"}))
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            # Only the last part of a key becomes a file name, so a key cannot lead out of DIR.
            target = directory / Path(item["Key"]).name
            answer = s3.get_object(Bucket=bucket, Key=item["Key"])
            target.write_bytes(answer["Body"].read())
            metadata = json.dumps(answer["Metadata"], indent=1, sort_keys=True)
            target.with_name(target.name + ".metadata.json").write_text(metadata + "\n")


if __name__ == "__main__":
    main()
