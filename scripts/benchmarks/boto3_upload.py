"""Upload a file as boto3 does, in parts of 8 MiB by ten threads; runs in an environment of boto3's own.

    python boto3_upload.py ENDPOINT BUCKET KEY FILE    the seconds that it took go to stdout

Neither the signature nor a checksum covers the bytes, as over https: this is what multipart can do by itself.
"""

import sys
import time

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

endpoint, bucket, key, file = sys.argv[1:]
plain = Config(
    s3={"addressing_style": "path", "payload_signing_enabled": False}, request_checksum_calculation="when_required"
)
client = boto3.client("s3", endpoint_url=endpoint, config=plain)
client.head_bucket(Bucket=bucket)
began = time.perf_counter()
client.upload_file(file, bucket, key, Config=TransferConfig(multipart_chunksize=8 << 20, max_concurrency=10))
print(time.perf_counter() - began)
