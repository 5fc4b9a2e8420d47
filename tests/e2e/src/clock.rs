//! Times as a configuration writes them, and positions as numbers.

use tidemill_servers::Server;

/// Microseconds since 1970 as `YYYY-MM-DDThh:mm:ss.ffffffZ`, by the server's own calendar.
pub async fn utc(server: &Server, us: i64) -> String {
    let (seconds, fraction) = (us.div_euclid(1_000_000), us.rem_euclid(1_000_000));
    let query = format!(
        "SELECT DATE_FORMAT(CONVERT_TZ(FROM_UNIXTIME({seconds}), @@time_zone, '+00:00'), '%Y-%m-%dT%H:%i:%s')"
    );
    let seconds: String = server.value(&query).await.expect("the server answers").expect("a time is no NULL");
    format!("{seconds}.{fraction:06}Z")
}

/// The SCN behind everything that is committed.
pub async fn end(server: &Server) -> u64 {
    let (file, offset) = server.binlog_end().await.expect("the server answers");
    let number: u64 =
        file.rsplit('.').next().and_then(|number| number.parse().ok()).expect("files are numbered");
    number << 40 | offset
}
