//! Small JSON objects that carry their own checksum, for those that nothing else points to with one: manifests, the hint,
//! pins. Still JSON for everybody:
//!
//! ```text
//! {"crc32c":"1a2b3c4d","format":1,…}
//!            └ CRC-32C of everything after these eight lower-case hexadecimal digits
//! ```

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

const HEAD: &[u8] = br#"{"crc32c":""#;
const DIGITS: usize = 8;
const BODY: usize = HEAD.len() + DIGITS;

/// The object of that value, which is a JSON object with fields.
pub(crate) fn seal(value: &impl Serialize) -> Bytes {
    let json = serde_json::to_vec(value).expect("states have text keys and cannot fail");
    assert!(json.len() > 2 && json[0] == b'{', "an object with fields");
    let mut sealed = Vec::with_capacity(json.len() + BODY + 2);
    sealed.extend_from_slice(HEAD);
    sealed.extend_from_slice(&[b'0'; DIGITS]);
    sealed.extend_from_slice(b"\",");
    sealed.extend_from_slice(&json[1..]);
    let crc = format!("{:08x}", crc32c::crc32c(&sealed[BODY..]));
    sealed[HEAD.len()..BODY].copy_from_slice(crc.as_bytes());
    sealed.into()
}

/// The value of an object, or what is wrong with it.
pub(crate) fn unseal<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.len() < BODY || !bytes.starts_with(HEAD) {
        return Err("it does not begin with its checksum".to_owned());
    }
    let (head, body) = bytes.split_at(BODY);
    let crc = format!("{:08x}", crc32c::crc32c(body));
    if head[HEAD.len()..] != *crc.as_bytes() {
        let theirs = String::from_utf8_lossy(&head[HEAD.len()..]).into_owned();
        return Err(format!("it has checksum {crc}, not {theirs}"));
    }
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_sealed_object_is_json_with_its_checksum() {
        let sealed = seal(&json!({"format": 1, "text": "tide"}));
        let text = std::str::from_utf8(&sealed).unwrap();
        assert_eq!(text, r#"{"crc32c":"bcf51cdb","format":1,"text":"tide"}"#);
        let back: Value = unseal(&sealed).unwrap();
        assert_eq!(back["text"], "tide");
    }

    #[test]
    fn b19_every_flipped_bit_and_every_truncation_of_a_sealed_object_is_refused() {
        let sealed = seal(&json!({"format": 1, "numbers": [1, 2, 3], "text": "ebb"}));
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal::<Value>(&flipped).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(unseal::<Value>(&sealed[..length]).is_err(), "{length} bytes");
        }
    }
}
