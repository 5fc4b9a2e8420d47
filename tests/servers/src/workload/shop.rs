//! A small shop's transactions, one at a time: the live counterpart of the recording in `examples/quickstart`, with the same tables.

use mysql_async::{Conn, Error, Opts, prelude::Queryable};

use super::{Random, execute};

const TABLES: &str = include_str!("../../../../examples/quickstart/tables.sql");
const PRODUCTS: u64 = 40;
const FIRST_NAMES: [&str; 6] = ["Ada", "Björn", "Chen", "Dora", "Émile", "Fatma"];
const LAST_NAMES: [&str; 4] = ["Berg", "Müller", "Ito", "Wałęsa"];
const COLORS: [&str; 3] = ["red", "blue", "grün"];
/// Orders that are neither shipped nor cancelled; above this many the shop stops taking new ones for a while.
const OPEN_ORDERS_MAX: usize = 50;

/// The shop, with the connection over which it trades.
#[derive(Debug)]
pub struct Shop {
    conn: Conn,
    random: Random,
    customers: u64,
    orders: u64,
    open: Vec<u64>,
    transactions: u64,
    alter_at: Option<u64>,
}

impl Shop {
    /// Creates the tables, the products and the first customer.
    pub async fn create(opts: Opts, seed: u64) -> Result<Self, Error> {
        let mut conn = Conn::new(opts).await?;
        conn.query_drop(TABLES).await?;
        let mut random = Random::new(seed);
        let products: Vec<String> = (1..=PRODUCTS).map(|id| product(id, &mut random)).collect();
        conn.query_drop(format!("INSERT INTO products VALUES {}", products.join(","))).await?;
        let mut shop =
            Self { conn, random, customers: 0, orders: 0, open: Vec::new(), transactions: 1, alter_at: None };
        shop.next_transaction().await?;
        Ok(shop)
    }

    /// Adds a column to `orders` in place of the transaction with this number (as [`Shop::transactions`] counts).
    pub fn alter_at(mut self, transaction: u64) -> Self {
        self.alter_at = Some(transaction);
        self
    }

    /// Transactions so far, the one with the products included.
    pub fn transactions(&self) -> u64 {
        self.transactions
    }

    /// Commits the next transaction and returns how many rows it changed: none for the ALTER.
    pub async fn next_transaction(&mut self) -> Result<u64, Error> {
        self.transactions += 1;
        let statements = if self.alter_at.is_some_and(|at| at <= self.transactions) {
            self.alter_at = None;
            "ALTER TABLE orders ADD COLUMN channel VARCHAR(16) NOT NULL DEFAULT 'web' AFTER amount"
                .to_string()
        } else {
            format!("BEGIN; {}; COMMIT", self.statements())
        };
        execute(&mut self.conn, &statements).await
    }

    /// Commits so many transactions and returns how many rows they changed.
    pub async fn run(&mut self, transactions: u64) -> Result<u64, Error> {
        let mut changes = 0;
        for _ in 0..transactions {
            changes += self.next_transaction().await?;
        }
        Ok(changes)
    }

    /// Ends the connection.
    pub async fn close(self) -> Result<(), Error> {
        self.conn.disconnect().await
    }

    fn statements(&mut self) -> String {
        if self.customers == 0 {
            return self.sign_up();
        }
        let full = self.open.len() >= OPEN_ORDERS_MAX;
        match self.random.below(20) {
            0..=3 => self.sign_up(),
            4..=9 if !full => self.place_order(),
            10..=12 => self.with_open_order(false, |order| format!("UPDATE orders SET status = 'paid' WHERE id = {order}")),
            13..=15 => self.with_open_order(true, |order| {
                format!("UPDATE orders SET status = 'shipped', shipped_on = DATE(created) + INTERVAL 2 DAY WHERE id = {order}")
            }),
            16 => self.with_open_order(true, cancel),
            17 => self.change_customer(),
            18 => format!("UPDATE products SET price = price + 0.10, weight_kg = 0.25 WHERE id % 7 = {}", self.random.below(7)),
            _ => format!("UPDATE products SET stock = stock + 100 WHERE id = {}", 1 + self.random.below(PRODUCTS)),
        }
    }

    fn sign_up(&mut self) -> String {
        self.customers += 1;
        let id = self.customers;
        let (first, last) = (*self.random.pick(&FIRST_NAMES), *self.random.pick(&LAST_NAMES));
        let phone = match self.random.below(9) {
            0 => "NULL".to_string(),
            _ => format!("'+49 30 {:07}'", self.random.below(10_000_000)),
        };
        format!(
            "INSERT INTO customers VALUES ({id}, '{}.{id}@example.com', '{first} {last}', {phone}, 'basic', \
             '1970-01-01' + INTERVAL {} DAY, '2026-01-02 08:00:00' + INTERVAL {} SECOND)",
            first.to_lowercase(),
            self.random.below(15_000),
            id * 151,
        )
    }

    /// The order, its items, and the stock of what was bought.
    fn place_order(&mut self) -> String {
        self.orders += 1;
        let id = 1000 + self.orders;
        self.open.push(id);
        let note = match self.random.below(4) {
            0 => format!("'Please ring twice, flat {} 🙂'", self.random.below(100)),
            _ => "NULL".to_string(),
        };
        let mut statements = format!(
            "INSERT INTO orders (id, customer_id, status, amount, created, note) VALUES ({id}, {}, 'new', 0, \
             '2026-01-03 09:00:00' + INTERVAL {} SECOND + INTERVAL {} MICROSECOND, {note})",
            1 + self.random.below(self.customers),
            id * 97,
            self.random.below(1_000_000),
        );
        let first = self.random.below(PRODUCTS);
        for line in 1..=1 + self.random.below(4) {
            let (product, quantity) = (1 + (first + line) % PRODUCTS, 1 + self.random.below(3));
            statements += &format!(
                "; INSERT INTO order_items SELECT {id}, {line}, id, {quantity}, price FROM products WHERE id = {product}; \
                 UPDATE products SET stock = stock - {quantity} WHERE id = {product}"
            );
        }
        statements
            + &format!(
                "; UPDATE orders SET amount = (SELECT SUM(quantity * price) FROM order_items WHERE order_id = {id}) WHERE id = {id}"
            )
    }

    /// Does something to an open order; `closes` takes it off the list. Without an open order, one is placed.
    fn with_open_order(&mut self, closes: bool, statements: impl FnOnce(u64) -> String) -> String {
        if self.open.is_empty() {
            return self.place_order();
        }
        let index = self.random.below(self.open.len() as u64) as usize;
        let order = if closes { self.open.swap_remove(index) } else { self.open[index] };
        statements(order)
    }

    fn change_customer(&mut self) -> String {
        let id = 1 + self.random.below(self.customers);
        match self.random.below(3) {
            0 => format!("UPDATE customers SET tier = IF(tier = 'basic', 'silver', 'gold') WHERE id = {id}"),
            1 => format!("UPDATE customers SET phone = NULL, birthday = NULL WHERE id = {id}"),
            _ => format!(
                "UPDATE customers SET name = '{} {id}' WHERE id = {id}",
                self.random.pick(&LAST_NAMES)
            ),
        }
    }
}

/// The order disappears with its items; the stock comes back.
fn cancel(order: u64) -> String {
    format!(
        "UPDATE products JOIN order_items ON product_id = id SET stock = stock + quantity WHERE order_id = {order}; \
         DELETE FROM order_items WHERE order_id = {order}; DELETE FROM orders WHERE id = {order}"
    )
}

fn product(id: u64, random: &mut Random) -> String {
    let price = 500 + random.below(20_000);
    let attributes = match id % 6 {
        0 => "NULL".to_string(),
        _ => format!(
            r#"'{{"color": "{}", "sizes": [{id}, {}], "fragile": {}}}'"#,
            random.pick(&COLORS),
            id + 1,
            id.is_multiple_of(5)
        ),
    };
    format!(
        "({id}, 'SKU-{:05}', 'Café cups no. {id}', {}.{:02}, {}e-3, 500, {attributes})",
        id * 7919 % 100_000,
        price / 100,
        price % 100,
        id * 37
    )
}
