"""How many ciphertexts one thread of stock boto3 decrypts a second, at two services that speak AWS KMS, by turns:

kms_rate.py URL KEY OTHER SECONDS

KEY is a key of the service at URL; at OTHER one is made. Prints both rates as JSON.
"""

import json
import os
import sys
import time

import boto3
from botocore.config import Config

os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
LOCAL = {"region_name": "eu-west-1", "aws_access_key_id": "bench", "aws_secret_access_key": "bench"}
# So many different ciphertexts, and so many decrypted before it is the other's turn.
DIFFERENT, TURN = 200, 50


class Service:
    def __init__(self, url: str, key: str | None):
        self.kms = boto3.client("kms", endpoint_url=url, config=Config(retries={"max_attempts": 1}), **LOCAL)
        key = key or self.kms.create_key()["KeyMetadata"]["KeyId"]
        self.context = {"purpose": "bench"}
        made = [
            self.kms.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=self.context)
            for _ in range(DIFFERENT)
        ]
        self.pairs = [(one["CiphertextBlob"], one["Plaintext"]) for one in made]
        self.next, self.took, self.count = 0, 0.0, 0

    def turn(self) -> None:
        begun = time.perf_counter()
        for _ in range(TURN):
            blob, plaintext = self.pairs[self.next]
            self.next = (self.next + 1) % len(self.pairs)
            opened = self.kms.decrypt(CiphertextBlob=blob, EncryptionContext=self.context)
            if opened["Plaintext"] != plaintext:
                raise AssertionError("another plaintext")
        self.took += time.perf_counter() - begun
        self.count += TURN


url, key, other, seconds = sys.argv[1:]
services = [Service(url, key), Service(other, None)]
# Whatever is done once is done before anything is measured.
for service in services:
    for _ in range(DIFFERENT // TURN):
        service.turn()
    service.took, service.count = 0.0, 0
end = time.monotonic() + float(seconds)
while time.monotonic() < end:
    for service in services:
        service.turn()
print(json.dumps({name: service.count / service.took for name, service in zip(("door", "other"), services)}))
