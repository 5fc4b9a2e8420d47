//! Times as a configuration writes them.

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
