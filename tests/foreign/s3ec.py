"""The Amazon S3 Encryption Client puts and gets objects:

s3ec.py put URL BUCKET KEY FILE [options]
s3ec.py get URL BUCKET KEY FILE [options]
s3ec.py vectors DIR

options: --kms-key ID         name of the key at the KMS of AWS_ENDPOINT_URL_KMS (and of its region and credentials)
         --fixed DEKHEX BLOB  no KMS: this data key, and this base64 for its wrap, for any context
         --context K=V        a pair of the encryption context; repeat for more
         --v2                 write, or accept, version 2

Exit codes: 0 done, 1 refused with one line on stderr, 2 usage. `vectors` makes spec/vectors/s3ec anew: with one data key
and wrap, but message ids and nonces are the client's, so no two runs make the same.
"""

import argparse
import base64
import json
import os
import sys
from pathlib import Path

import boto3
from botocore.awsrequest import AWSResponse
from s3_encryption import S3EncryptionClient, S3EncryptionClientConfig
from s3_encryption.exceptions import S3EncryptionClientError
from s3_encryption.materials.kms_keyring import KmsKeyring
from s3_encryption.materials.materials import AlgorithmSuite, CommitmentPolicy

LOCAL = {"region_name": "eu-west-1", "aws_access_key_id": "S3RVER", "aws_secret_access_key": "S3RVER"}


def fixed_kms(dek: bytes, blob: str, asked: list):
    """A KMS client whose answers are these; what it was asked for is put into `asked`."""
    client = boto3.client("kms", endpoint_url="http://127.0.0.1:9", **LOCAL)

    def answer(model, params, **_):
        request = json.loads(params["body"])
        asked.append(request)
        answered = {"KeyId": request["KeyId"], "Plaintext": dek, "ResponseMetadata": {"HTTPStatusCode": 200}}
        if model.name == "GenerateDataKey":
            answered["CiphertextBlob"] = base64.b64decode(blob)
        elif base64.b64decode(request["CiphertextBlob"]) != base64.b64decode(blob):
            raise S3EncryptionClientError("another wrap than the one that is known")
        return AWSResponse("", 200, {}, None), answered

    client.meta.events.register("before-call.kms", answer)
    return client


def encrypting(kms, key: str, v2: bool, **s3):
    settings = {}
    if v2:
        settings["encryption_algorithm"] = AlgorithmSuite.ALG_AES_256_GCM_IV12_TAG16_NO_KDF
        settings["commitment_policy"] = CommitmentPolicy.FORBID_ENCRYPT_ALLOW_DECRYPT
    keyring = KmsKeyring(kms_client=kms, kms_key_id=key)
    return S3EncryptionClient(boto3.client("s3", **s3), S3EncryptionClientConfig(keyring=keyring, **settings))


# A data key, and the wrap of a dataset's key server in the form that the door gives it (DOOR-6), as far as a reader looks.
DEK = bytes(range(32))
DATASET = bytes([0x11] * 16)
WRAPPED = (
    b"\x89\x01\x01" + b"\x50" + DATASET + b"\x50" + bytes([0x22] * 16) + b"\x01" + b"\x50" + bytes([0x33] * 16)
    + b"\x00" + b"\x58\x18" + bytes([0x44] * 24) + b"\x58\x30" + bytes([0x55] * 48)
)
BLOB = base64.b64encode(
    b"\x84" + b"\x6dpostern/1 kms" + b"\x50" + DATASET + b"\x58" + bytes([len(WRAPPED)]) + WRAPPED + b"\x6bdata-key/32"
).decode()


def vectors(directory: Path) -> None:
    cases = {
        "v3-empty": (0, {}, False),
        "v3-short": (5, {}, False),
        "v3-context": (1000, {"owner": "research", "quote": 'a "b" \\ c'}, False),
        "v3-blocks": (64, {}, False),
        "v3-named": (33, {"name": "s3://bucket/a"}, False),
        "v2-short": (5, {}, True),
        "v2-context": (1000, {"owner": "research"}, True),
    }
    for name, (length, context, v2) in cases.items():
        asked: list = []
        client = encrypting(fixed_kms(DEK, BLOB, asked), "any", v2, endpoint_url="http://127.0.0.1:9", **LOCAL)
        sent: list = []

        def send(request, sent=sent, **_):
            body = request.body if isinstance(request.body, bytes) else request.body.read()
            sent.append((dict(request.headers), body))
            return AWSResponse(request.url, 200, {}, None)

        class Silent:
            def stream(self, *_, **__):
                return iter(())

        def send_and_answer(request, **kwargs):
            answered = send(request, **kwargs)
            answered.raw = Silent()
            return answered

        # What the client would send is kept, and nothing is sent.
        client.meta.events.register("before-send.s3.PutObject", send_and_answer)
        plaintext = bytes(at % 251 for at in range(length))
        client.put_object(Bucket="bucket", Key="a", Body=plaintext, EncryptionContext=context)
        headers, body = sent[0]
        if "aws-chunked" in text(headers.get("Content-Encoding", "")):
            size, rest = body.split(b"\r\n", 1)
            body = rest[: int(size, 16)]
        prefix = "x-amz-meta-"
        metadata = {k.lower()[len(prefix):]: text(v) for k, v in headers.items() if k.lower().startswith(prefix)}
        vector = {
            "dek": DEK.hex(),
            "plaintext_len": length,
            "wrap_context": asked[0]["EncryptionContext"],
            "metadata": metadata,
            "body": body.hex(),
        }
        (directory / f"{name}.json").write_text(json.dumps(vector, indent=2) + "\n")


def text(value) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["put", "get", "vectors"])
    parser.add_argument("places", nargs="+")
    parser.add_argument("--kms-key", default="any")
    parser.add_argument("--fixed", nargs=2)
    parser.add_argument("--context", action="append", default=[])
    parser.add_argument("--v2", action="store_true")
    options = parser.parse_args()
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    if options.command == "vectors":
        vectors(Path(options.places[0]))
        return 0
    url, bucket, key, file = options.places
    if options.fixed:
        kms = fixed_kms(bytes.fromhex(options.fixed[0]), options.fixed[1], [])
    else:
        # As a job has it: everything about the KMS comes from the environment.
        kms = boto3.client("kms")
    client = encrypting(kms, options.kms_key, options.v2, endpoint_url=url, **LOCAL)
    context = dict(pair.split("=", 1) for pair in options.context)
    arguments = {"Bucket": bucket, "Key": key, "EncryptionContext": context}
    try:
        if options.command == "put":
            client.put_object(Body=Path(file).read_bytes(), **arguments)
        else:
            Path(file).write_bytes(client.get_object(**arguments)["Body"].read())
    except S3EncryptionClientError as error:
        print(str(error).replace("\n", " "), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
