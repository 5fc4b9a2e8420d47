-- A small web shop's year: the transactions behind binlog.000001 and binlog.000002 of this folder.
-- Deterministic: every value is computed from a counter, so recording again gives the same rows.
-- About 1850 row changes in 550 transactions: sign-ups, orders over three tables, payments, shipments, cancellations, an ALTER.
-- Runs after tables.sql.

DELIMITER //

CREATE PROCEDURE add_products()
BEGIN
    INSERT INTO products
        WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 40)
        SELECT
            n,
            CONCAT('SKU-', LPAD(n * 7919 % 100000, 5, '0')),
            CONCAT(ELT(1 + n % 5, 'Kettle', 'Lamp', 'Chair', 'Blanket', 'Café cups'), ' no. ', n),
            5 + n * 3.35,
            IF(n % 8 = 0, NULL, n / 7e0),
            500,
            IF(n % 6 = 0, NULL, JSON_OBJECT('color', ELT(1 + n % 3, 'red', 'blue', 'grün'), 'sizes', JSON_ARRAY(n, n + 1), 'fragile', n % 5 = 4))
        FROM numbers;
END //

CREATE PROCEDURE sign_up(n INT)
BEGIN
    INSERT INTO customers (email, name, phone, tier, birthday, created) VALUES (
        CONCAT(LOWER(ELT(1 + n % 6, 'Ada', 'Björn', 'Chen', 'Dora', 'Émile', 'Fatma')), '.', n, '@example.com'),
        CONCAT(ELT(1 + n % 6, 'Ada', 'Björn', 'Chen', 'Dora', 'Émile', 'Fatma'), ' ', ELT(1 + n % 4, 'Berg', 'Müller', 'Ito', 'Wałęsa')),
        IF(n % 9 = 0, NULL, CONCAT('+49 30 ', LPAD(n * 104729 % 10000000, 7, '0'))),
        'basic',
        IF(n % 5 = 0, NULL, '1970-01-01' + INTERVAL n * 97 DAY),
        '2026-01-02 08:00:00' + INTERVAL n * 151 MINUTE);
END //

-- One order: the order, two to four items, and the stock of what was bought, in one transaction over three tables.
CREATE PROCEDURE place_order(n INT, customers_known INT)
BEGIN
    DECLARE i INT DEFAULT 1;
    DECLARE product INT;
    START TRANSACTION;
    INSERT INTO orders (id, customer_id, status, amount, created, note) VALUES (
        -- The last order's number lies beyond a signed 64-bit integer.
        IF(n = 160, 18446744073709551615, 1000 + n),
        1 + n * 31 % customers_known,
        'new',
        0,
        '2026-01-03 09:00:00.000000' + INTERVAL n * 3571 MINUTE + INTERVAL n * 7919 MICROSECOND,
        IF(n % 4 = 0, CONCAT('Please ring twice, flat ', n, ELT(1 + n % 3, '.', ' – danke!', ' 🙂')), NULL));
    WHILE i <= 2 + n % 3 DO
        SET product = 1 + (n * 13 + i * 5) % 40;
        INSERT INTO order_items
            SELECT IF(n = 160, 18446744073709551615, 1000 + n), i, id, 1 + (n + i) % 3, price FROM products WHERE id = product;
        UPDATE products SET stock = stock - (1 + (n + i) % 3) WHERE id = product;
        SET i = i + 1;
    END WHILE;
    UPDATE orders SET amount = (SELECT SUM(quantity * price) FROM order_items WHERE order_id = orders.id)
        WHERE id = IF(n = 160, 18446744073709551615, 1000 + n);
    COMMIT;
END //

-- A cancelled order disappears with its items; the stock comes back.
CREATE PROCEDURE cancel_order(n INT)
BEGIN
    START TRANSACTION;
    UPDATE products JOIN order_items ON product_id = id SET stock = stock + quantity WHERE order_id = 1000 + n;
    DELETE FROM order_items WHERE order_id = 1000 + n;
    DELETE FROM orders WHERE id = 1000 + n;
    COMMIT;
END //

CREATE PROCEDURE trade(first INT, last INT)
BEGIN
    DECLARE n INT DEFAULT first;
    WHILE n <= last DO
        IF n <= 110 THEN
            CALL sign_up(n);
        END IF;
        CALL place_order(n, LEAST(n, 110));
        IF n > 3 THEN
            IF n % 11 = 0 THEN
                CALL cancel_order(n - 3);
            ELSE
                UPDATE orders SET status = 'paid' WHERE id = 1000 + n - 3;
                UPDATE orders SET status = 'shipped', shipped_on = DATE(created) + INTERVAL 2 DAY
                    WHERE id = 1000 + n - 3 AND n % 5 <> 0;
            END IF;
        END IF;
        IF n % 17 = 0 THEN
            UPDATE customers SET tier = IF(tier = 'basic', 'silver', 'gold'), phone = NULL WHERE id = 1 + n % 40;
        END IF;
        SET n = n + 1;
    END WHILE;
END //

DELIMITER ;

CALL add_products();
CALL trade(1, 82);

-- The shop opens a second sales channel: from here on rows have one column more.
ALTER TABLE orders ADD COLUMN channel VARCHAR(16) NOT NULL DEFAULT 'web' AFTER amount;

FLUSH BINARY LOGS;

CALL trade(83, 160);
UPDATE orders SET channel = 'phone' WHERE id BETWEEN 1100 AND 1110;

-- A new key for a row, and a price rise over every product, each in one statement.
UPDATE customers SET id = 9001 WHERE id = 3;
UPDATE products SET price = price * 1.05;

-- What was tried and taken back leaves no trace in the log.
START TRANSACTION;
DELETE FROM customers;
ROLLBACK;

-- One customer asks to be forgotten.
START TRANSACTION;
DELETE order_items FROM order_items JOIN orders ON orders.id = order_id WHERE customer_id = 7;
DELETE FROM orders WHERE customer_id = 7;
DELETE FROM customers WHERE id = 7;
COMMIT;
