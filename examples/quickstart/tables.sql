-- The shop's four tables. record.sh and `demo --live` both begin with this file.

CREATE DATABASE shop CHARACTER SET utf8mb4;
USE shop;

CREATE TABLE customers (
    id       INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    email    VARCHAR(120) NOT NULL UNIQUE,
    name     VARCHAR(80)  NOT NULL,
    phone    VARCHAR(32)  NULL,
    tier     ENUM('basic', 'silver', 'gold') NOT NULL DEFAULT 'basic',
    birthday DATE NULL,
    created  TIMESTAMP NOT NULL
);

CREATE TABLE products (
    id         INT NOT NULL PRIMARY KEY,
    sku        VARCHAR(20)   NOT NULL,
    title      VARCHAR(120)  NOT NULL,
    price      DECIMAL(10,2) NOT NULL,
    weight_kg  DOUBLE NULL,
    stock      INT NOT NULL,
    attributes JSON NULL
);

CREATE TABLE orders (
    id          BIGINT UNSIGNED NOT NULL PRIMARY KEY,
    customer_id INT UNSIGNED NOT NULL,
    status      VARCHAR(16) NOT NULL,
    amount      DECIMAL(12,2) NOT NULL,
    created     DATETIME(6) NOT NULL,
    shipped_on  DATE NULL,
    note        TEXT NULL,
    KEY (customer_id)
);

CREATE TABLE order_items (
    order_id   BIGINT UNSIGNED NOT NULL,
    line       SMALLINT NOT NULL,
    product_id INT NOT NULL,
    quantity   INT NOT NULL,
    price      DECIMAL(10,2) NOT NULL,
    PRIMARY KEY (order_id, line)
);
