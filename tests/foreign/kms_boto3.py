"""Stock boto3 at the node's door: every operation, each answer held to botocore's own model of AWS KMS."""

import json
import sys

import boto3
from botocore.exceptions import ClientError

alias = "alias/" + sys.argv[1]
kms = boto3.client("kms", region_name=sys.argv[2])
model = kms.meta.service_model


def fits(shape, value, at):
    """That a value has every member that its shape requires, none that it does not have, and their types."""
    kinds = {"structure": dict, "list": list, "map": dict, "string": str, "boolean": bool, "blob": str,
             "integer": int, "long": int, "timestamp": (int, float)}
    assert isinstance(value, kinds[shape.type_name]), (at, shape.type_name, value)
    if shape.type_name == "structure":
        unknown = set(value) - set(shape.members)
        assert not unknown, (at, unknown)
        assert set(shape.required_members) <= set(value), (at, shape.required_members, value)
        for name, member in value.items():
            fits(shape.members[name], member, f"{at}.{name}")
    if shape.type_name == "list":
        for item in value:
            fits(shape.member, item, at + "[]")
    if getattr(shape, "enum", None):
        assert value in shape.enum, (at, value, shape.enum)


def look(http_response, parsed, model, **_):
    body = json.loads(http_response.content)
    if http_response.status_code == 200:
        fits(model.output_shape, body, model.name)
    else:
        errors = {shape.name for shape in model.error_shapes}
        common = {"AccessDeniedException", "ThrottlingException", "ValidationException", "SerializationException",
                  "UnsupportedOperationException"}
        assert body["__type"] in errors | common, (model.name, body, errors)
        assert body["message"], body


kms.meta.events.register("after-call.kms", look)


def refused(code, operation, **arguments):
    try:
        answer = getattr(kms, operation)(**arguments)
    except ClientError as error:
        got = error.response["Error"]["Code"]
        assert got == code, (operation, got, error)
        return error.response
    raise AssertionError((operation, arguments, answer))


context = {"purpose": "test", "table": "readings"}
other = {"purpose": "test", "table": "writings"}

key = kms.describe_key(KeyId=alias)["KeyMetadata"]
arn, uuid = key["Arn"], key["KeyId"]
assert arn == f"arn:aws:kms:{sys.argv[2]}:{sys.argv[3]}:key/{uuid}", arn
assert [k["KeyArn"] for k in kms.list_keys()["Keys"]] == [arn]
assert [a["AliasName"] for a in kms.list_aliases(KeyId=arn)["Aliases"]] == [alias]

for key_id in (alias, arn, uuid):
    made = kms.generate_data_key(KeyId=key_id, KeySpec="AES_256", EncryptionContext=context)
    assert made["KeyId"] == arn and len(made["Plaintext"]) == 32
    opened = kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=context)
    assert opened["Plaintext"] == made["Plaintext"] and opened["KeyId"] == arn
blob = made["CiphertextBlob"]
for wrong in ({}, other, {**context, "more": "x"}):
    refused("InvalidCiphertextException", "decrypt", CiphertextBlob=blob, EncryptionContext=wrong)
for at in range(0, len(blob), 7):
    flipped = blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1:]
    try:
        got = kms.decrypt(CiphertextBlob=flipped, EncryptionContext=context)
        raise AssertionError((at, got))
    except ClientError as error:
        assert error.response["Error"]["Code"] in ("InvalidCiphertextException", "NotFoundException"), (at, error)
for form in (b"data-key/33", b"data-key/16"):
    swapped = blob.replace(b"data-key/32", form)
    assert swapped != blob
    refused("InvalidCiphertextException", "decrypt", CiphertextBlob=swapped, EncryptionContext=context)

for wanted, length in (({"KeySpec": "AES_128"}, 16), ({"NumberOfBytes": 64}, 64), ({"NumberOfBytes": 1024}, 1024)):
    made = kms.generate_data_key(KeyId=arn, EncryptionContext=context, **wanted)
    assert len(made["Plaintext"]) == length
    again = kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=context, KeyId=alias)
    assert again["Plaintext"] == made["Plaintext"]
bare = kms.generate_data_key_without_plaintext(KeyId=arn, KeySpec="AES_256")
assert "Plaintext" not in bare and len(kms.decrypt(CiphertextBlob=bare["CiphertextBlob"])["Plaintext"]) == 32

for spec in ("ECC_NIST_P256", "ECC_NIST_EDWARDS25519"):
    pair = kms.generate_data_key_pair(KeyId=arn, KeyPairSpec=spec, EncryptionContext=context)
    opened = kms.decrypt(CiphertextBlob=pair["PrivateKeyCiphertextBlob"], EncryptionContext=context)
    assert opened["Plaintext"] == pair["PrivateKeyPlaintext"]
    kms.generate_data_key_pair_without_plaintext(KeyId=arn, KeyPairSpec=spec)
refused("UnsupportedOperationException", "generate_data_key_pair", KeyId=arn, KeyPairSpec="RSA_2048")

payload = bytes(range(256)) * 16
sealed = kms.encrypt(KeyId=alias, Plaintext=payload, EncryptionContext=context)["CiphertextBlob"]
assert kms.decrypt(CiphertextBlob=sealed, EncryptionContext=context)["Plaintext"] == payload
refused("InvalidCiphertextException", "decrypt", CiphertextBlob=sealed, EncryptionContext=other)
for ciphertext in (sealed, blob):
    moved = kms.re_encrypt(CiphertextBlob=ciphertext, SourceEncryptionContext=context, DestinationKeyId=arn,
                           DestinationEncryptionContext=other)
    assert moved["KeyId"] == moved["SourceKeyId"] == arn
    before = kms.decrypt(CiphertextBlob=ciphertext, EncryptionContext=context)["Plaintext"]
    assert kms.decrypt(CiphertextBlob=moved["CiphertextBlob"], EncryptionContext=other)["Plaintext"] == before
    refused("InvalidCiphertextException", "decrypt", CiphertextBlob=moved["CiphertextBlob"], EncryptionContext=context)
assert len(kms.generate_random(NumberOfBytes=24)["Plaintext"]) == 24

nobody = "00000000-0000-0000-0000-000000000000"
for key_id in (nobody, "alias/nobody", arn.replace(sys.argv[2], "eu-north-1"), arn.replace(uuid, nobody), "x"):
    refused("NotFoundException", "generate_data_key", KeyId=key_id, KeySpec="AES_256")
refused("NotFoundException", "decrypt", CiphertextBlob=blob, EncryptionContext=context, KeyId="alias/nobody")
refused("ValidationException", "generate_data_key", KeyId=arn, KeySpec="AES_256", NumberOfBytes=32)
refused("ValidationException", "generate_data_key", KeyId=arn, KeySpec="AES_256", EncryptionContext={"kms": "payload"})
refused("ValidationException", "generate_data_key", KeyId=arn, KeySpec="AES_256",
        EncryptionContext={str(n): "x" for n in range(16)})
refused("InvalidGrantTokenException", "decrypt", CiphertextBlob=blob, EncryptionContext=context,
        GrantTokens=[sys.argv[4]])
refused("InvalidGrantTokenException", "decrypt", CiphertextBlob=blob, EncryptionContext=context, GrantTokens=["AAAA"])
refused("DryRunOperationException", "generate_data_key", KeyId=arn, KeySpec="AES_256", DryRun=True)
refused("UnsupportedOperationException", "create_key")
refused("UnsupportedOperationException", "sign", KeyId=arn, Message=b"m", SigningAlgorithm="ED25519_SHA_512")
print("held to botocore's model:", model.service_name, model.api_version)
