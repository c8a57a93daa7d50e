"""Secrets in addresses: refused in every spelling, masked wherever they are shown."""

from __future__ import annotations

import pytest

from runner.config import credentials
from runner.errors import ConfigError

SECRET = "kangaroo"


@pytest.mark.parametrize(
    "address",
    [
        f"http://me:{SECRET}@127.0.0.1:1", f"https://{SECRET}@host", f"http://me:{SECRET}/x@host", f"HTTP://me:{SECRET}@host",
        f"postgresql://me:{SECRET}@host/db", f"mysql+pymysql://me:{SECRET}@host/db", f"http://host?token={SECRET}",
        f"http://host/x?a=1&access_token={SECRET}", f"http://host?key={SECRET}", f"http://host?api-key={SECRET}",
        f"http://host?apikey={SECRET}", f"http://host?sig={SECRET}", f"http://host#auth={SECRET}",
        f"http://host/token={SECRET}", f"s3://bucket/x?X-Amz-Signature={SECRET}", f"http://host;password={SECRET}",
        f"http://host/?AWSAccessKey={SECRET}", f"http://host/?AWSAccessKeyId={SECRET}", f"http://me:pa,ss{SECRET}@host",
        f"http\\://me:{SECRET}@127.0.0.1:1", f"mssql+pyodbc:///?odbc_connect=DRIVER%3D%7BX%20Y%7D%3BUID%3Dme%3BPWD%3D{SECRET}",
        f"postgresql://me:12345/{SECRET}@127.0.0.1:1/db", f"postgresql://me:{SECRET} word@host/db",
        f"postgresql://host/db?password={SECRET}", f"http://[bad:{SECRET}@host",
        f"http://me:12,3{SECRET}@host",
        f"postgresql://me:12,3{SECRET}@host/db", f"http://me:1 {SECRET}@host", f"http://host?pw={SECRET}",
        f"http\\://me\\:{SECRET}@host", f"http://host?token\\={SECRET}", f"http://host/#jwt={SECRET}",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "spelling",
    [
        "tracking.uri={}", "++tracking.uri={}", "+tracking.uri='{}'", 'tracking.uri="{}"', "tracking.uri=choice({},http://b)",
        "tracking.uri=choice('{}','http://b')", "tracking.uri=http://a,{}", "tracking.uri=glob(*,exclude='{}')",
        "tracking={{uri:'{}'}}", "checkpoint.init_from={}", "--uri={}", "{}",
    ],
)  # fmt: skip
def test_a_secret_in_an_address_is_refused_however_it_is_written(spelling, address):
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as refused:
        credentials.refuse(spelling.format(address))
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "word",
    [
        "tracking.uri=http://127.0.0.1:5000", "tracking.uri=sqlite:///outputs/mlflow.db", "mode=cls", "data.root=a@c",
        "tracking.uri=postgresql://me@host/db?sslmode=require", "name=key", "+data.augment.key=3", "photo?key=1.jpg",
        "model.kwargs={a:1}", "hydra.searchpath=[file:///home/me/conf]", "tracking.uri=http://host/path?page=2",
        "tracking.uri=http://host:5000/a@b", "tracking.uri=http://a:5000,http://b:5000", "tracking.uri=http://h/?design=1",
        "tracking.uri=http://a,http://b:5000/x@y", "tracking.uri=http://a:5000, http://b:1/x@y", "data.root=a\\:b@c",
        "tracking.uri=choice('http://a:1','sqlite:///x@y.db')", "optimizer.lr=tag(log,interval(0.1,1))",
        "me@host:/data", "uri: http://host\nnote: a@b", "uri: http://host:5000\nnote: a@b",
    ],
)  # fmt: skip
def test_what_is_no_secret_is_taken(word):
    credentials.refuse(word)
