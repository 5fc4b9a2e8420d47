"""Reads published tables as strangers do, and says what it saw: one JSON object a request on standard input, one a line as the
answer.

A request names a `reader`, a `table` (URL of its directory, or of a `directory` of plain files), and may have a `version` of its Delta Lake log, a `where` (SQL
over its columns) and `settings` (the environment of an object store). The answer has the SCN that was read, the number of rows,
the sum of their hashes, so that their order does not matter, and of each column its kind, the number of its values, and the sum
of their hashes.
What is hashed is a value's canonical text; src/digest.rs makes the same of the rows that were written.
"""

import glob
import hashlib
import importlib
import json
import os
import struct
import sys

import pyarrow as pa
import pyarrow.compute as pc


def latest(request):
    """The newest published version, as LATEST.json says; or the directory that is meant."""
    if "directory" in request:
        return {"directory": request["directory"]}
    files, path = file_system(request, request["table"])
    with files.open_input_stream(path + "/LATEST.json") as file:
        found = json.loads(file.read())
    found["directory"] = request["table"] + "/" + found["path"].rstrip("/").rsplit("/", 1)[-1]
    return found


def file_system(request, url):
    import pyarrow.fs as fs

    settings = request.get("settings")
    if not settings:
        return fs.LocalFileSystem(), url.removeprefix("file://")
    endpoint = settings["AWS_ENDPOINT_URL"].removeprefix("http://")
    s3 = fs.S3FileSystem(
        access_key=settings["AWS_ACCESS_KEY_ID"],
        secret_key=settings["AWS_SECRET_ACCESS_KEY"],
        region=settings["AWS_REGION"],
        endpoint_override=endpoint,
        scheme="http",
    )
    return s3, url.removeprefix("s3://")


# Readers of the plain Parquet files.


def with_pyarrow(request):
    import pyarrow.dataset as ds

    found = latest(request)
    files, path = file_system(request, found["directory"])
    return ds.dataset(path, filesystem=files, format="parquet").to_table(), found


def with_polars(request):
    import polars

    found = latest(request)
    frame = polars.scan_parquet(found["directory"] + "/*.parquet", storage_options=polars_options(request))
    return filtered_by_polars(frame, request), found


def with_duckdb(request):
    found = latest(request)
    connection = duckdb_connection(request)
    return from_duckdb(connection, f"read_parquet('{found['directory']}/*.parquet')", request), found


def with_spark(request):
    found = latest(request)
    frame = spark().read.parquet(found["directory"])
    if request.get("where"):
        frame = frame.where(request["where"])
    return frame.toArrow(), found


# Readers of the Delta Lake log.


def with_delta_rs(request):
    import deltalake

    table = deltalake.DeltaTable(
        request["table"], version=request.get("version"), storage_options=request.get("settings")
    )
    # How far we are with that table; `history()` would count from the newest version, whichever was opened.
    scn = table.transaction_version("tidemill:shop:" + table.metadata().name)
    builder = deltalake.QueryBuilder().register("t", table)
    condition = f" WHERE {request['where']}" if request.get("where") else ""
    return pa.table(builder.execute(f"SELECT * FROM t{condition}").read_all()), {"scn": scn}


def with_polars_delta(request):
    import polars

    frame = polars.scan_delta(
        request["table"], version=request.get("version"), storage_options=request.get("settings")
    )
    return filtered_by_polars(frame, request), {}


def with_duckdb_delta(request):
    connection = duckdb_connection(request)
    version = request.get("version")
    version = "" if version is None else f", version => {version}"
    return from_duckdb(connection, f"delta_scan('{request['table']}'{version})", request), {}


def duckdb_connection(request):
    import duckdb

    connection = duckdb.connect()
    for name in ("httpfs", "delta"):
        package = os.path.dirname(importlib.import_module("duckdb_extension_" + name).__file__)
        (extension,) = glob.glob(package + "/extensions/*/*.duckdb_extension")
        connection.execute(f"LOAD '{extension}'")
    settings = request.get("settings")
    if settings:
        connection.execute(
            f"""CREATE SECRET (TYPE s3, KEY_ID '{settings["AWS_ACCESS_KEY_ID"]}',
            SECRET '{settings["AWS_SECRET_ACCESS_KEY"]}', REGION '{settings["AWS_REGION"]}',
            ENDPOINT '{settings["AWS_ENDPOINT_URL"].removeprefix("http://")}', URL_STYLE 'path', USE_SSL false)"""
        )
    return connection


def from_duckdb(connection, relation, request):
    condition = f" WHERE {request['where']}" if request.get("where") else ""
    return connection.execute(f"SELECT * FROM {relation}{condition}").to_arrow_table()


def polars_options(request):
    settings = request.get("settings")
    return {name.lower(): value for name, value in settings.items()} if settings else None


def filtered_by_polars(frame, request):
    import polars

    if request.get("where"):
        frame = frame.filter(polars.sql_expr(request["where"]))
    return frame.collect().to_arrow()


def spark():
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.sql.session.timeZone", "UTC").config("spark.driver.bindAddress", "127.0.0.1")
    return builder.config("spark.driver.host", "127.0.0.1").getOrCreate()


READERS = {
    "pyarrow": with_pyarrow,
    "polars": with_polars,
    "duckdb": with_duckdb,
    "spark": with_spark,
    "delta-rs": with_delta_rs,
    "polars-delta": with_polars_delta,
    "duckdb-delta": with_duckdb_delta,
}


def digest(table):
    columns, whole = {}, [""] * table.num_rows
    for name in sorted(table.column_names):
        kind, values = canonical(table.column(name))
        present = [value for value in values if value is not None]
        columns[name] = {"kind": kind, "values": len(present), "hash": total(present)}
        if name == "_scn":
            continue
        whole = [row + ("-" if value is None else "+" + value) + "\n" for row, value in zip(whole, values)]
    return {"rows": table.num_rows, "hash": total(whole), "columns": columns}


def total(values):
    """The sum of their hashes."""
    hashes = (int.from_bytes(hashlib.sha256(value.encode()).digest()[:8], "big") for value in values)
    return f"{sum(hashes) % 2**64:016x}"


def canonical(column):
    kind = column.type
    types = pa.types
    if types.is_boolean(kind):
        return "bool", texts(column, lambda value: "true" if value else "false")
    if types.is_integer(kind):
        return "int", texts(column, str)
    if types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})", texts(column, lambda value: format(value, "f"))
    if types.is_float32(kind) or types.is_float64(kind):
        return str(kind), texts(column, lambda value: struct.pack(">d", value).hex() if value == value else "nan")
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text", texts(column, str)
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return "bytes", texts(column, lambda value: value.hex())
    if types.is_date32(kind):
        return "date", texts(pc.cast(column, pa.int32()), str)
    if types.is_timestamp(kind):
        micros = pc.cast(pc.cast(column, pa.timestamp("us", kind.tz)), pa.int64())
        return "datetime" if kind.tz is None else "timestamp", texts(micros, str)
    raise TypeError(f"no reader was expected to see {kind}")


def texts(column, text):
    return [None if value is None else text(value) for value in column.to_pylist()]


def outsider(request):
    """Tries to write into a Delta table; answers with what each attempt was refused with."""
    import deltalake

    table = deltalake.DeltaTable(request["table"])
    some = with_delta_rs(request)[0].slice(0, 1)
    loose = {"retention_hours": 0, "dry_run": False, "enforce_retention_duration": False}
    attempts = {
        "append": lambda: deltalake.write_deltalake(table, some, mode="append"),
        "delete": lambda: table.delete("true"),
        "optimize": lambda: table.optimize.compact(),
        "vacuum": lambda: table.vacuum(**loose),
        "full vacuum": lambda: table.vacuum(full=True, **loose),
    }
    answers = {}
    for name, attempt in attempts.items():
        try:
            attempt()
            answers[name] = None
        except Exception as error:
            answers[name] = str(error)
    return answers


def sql(request):
    """What each query of a script for DuckDB gives."""
    connection, results = duckdb_connection(request), []
    for statement in filter(str.strip, request["script"].split(";")):
        # The extensions are here already.
        if statement.split()[0] in ("INSTALL", "LOAD"):
            continue
        connection.execute(statement)
        if statement.split()[0] == "SELECT":
            results.append([[str(value) for value in row] for row in connection.fetchall()])
    return {"results": results}


def answer(request):
    if request["reader"] == "sql":
        return sql(request)
    if request["reader"] == "outsider":
        return outsider(request)
    table, found = READERS[request["reader"]](request)
    return {"scn": found.get("scn"), **digest(table)}


for line in sys.stdin:
    try:
        said = answer(json.loads(line))
    except Exception as error:
        said = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(said), flush=True)
