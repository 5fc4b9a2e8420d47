//! Bodies are byte for byte those of earlier releases.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support {
    pub mod shop;
}

use std::path::Path;

use support::shop::*;
use tidemill_event::{Event, EventKind, Part, TableName};
use tidemill_relay::{Asked, Format};

fn shop() -> Shop {
    let mut shop = Shop::new();
    let first = vec![
        (0, Change::Insert(row(1, "open"))),
        (2, Change::Insert(row(9, "a note"))),
        (0, Change::Update(row(1, "open"), Row { note: None, ..row(1, "paid ✓") })),
        (1, Change::Insert(row(-7, "wheel"))),
    ];
    let mut window_with_event =
        window(0, &[Commit(10, first), Commit(20, vec![(0, Change::Delete(row(1, "paid ✓"))); 2])]);
    let keep =
        arrow_buffer::BooleanBuffer::collect_bool(window_with_event.tables[0].rows.num_rows(), |row| row < 4);
    window_with_event.tables[0] = window_with_event.tables[0].keep(&keep).unwrap();
    let kind = EventKind::Truncate { table: TableName::new("shop", "orders") };
    window_with_event.events = vec![Event { ordinal: 5, txn: 1, kind }];
    shop.append(&window_with_event);
    shop.append(&window(20, &[]));
    shop.append(&part(inserts(20, &[30]), Part::First, 0));
    shop.append(&part(inserts(20, &[30]), Part::Last, 1));
    shop
}

async fn check(name: &str, asked: Asked) {
    let written = body(&answers(), &shop(), asked).await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &written).unwrap();
    }
    let kept = std::fs::read(&path).unwrap_or_else(|e| panic!("{name}: {e}; BLESS=1 writes it"));
    if name.ends_with("txt") || name.ends_with("json") {
        assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(&kept));
    }
    assert!(kept == written, "{name} is not what earlier releases gave");
}

#[tokio::test]
async fn bodies_are_byte_for_byte_those_of_earlier_releases() {
    check("changes.json", all(Format::Json)).await;
    check("changes.events.txt", all(Format::Events)).await;
    check("changes.frames", all(Format::Frames)).await;
    let shop_only = Asked { selection: tables(&["shop.*"]), ..all(Format::Frames) };
    check("changes.selected.frames", shop_only).await;
    check("changes.arrow", Asked { selection: tables(&["shop.orders"]), ..all(Format::Arrow) }).await;
}
