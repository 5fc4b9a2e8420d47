"""What the orders of each status are worth, from the newest published version: spark-submit orders.py DIRECTORY-OF-THE-TABLE"""

import sys

from pyspark.sql import SparkSession

table = sys.argv[1]
spark = SparkSession.builder.appName("orders").getOrCreate()
# The newest version: a directory that is complete and never changes.
version = spark.read.json(f"{table}/LATEST.json", multiLine=True).first()
orders = spark.read.parquet(f"{table}/{version.path}")
orders.groupBy("status").agg({"amount": "sum", "*": "count"}).orderBy("status").show()
print(f"{orders.count()} orders as of SCN {version.scn}")
