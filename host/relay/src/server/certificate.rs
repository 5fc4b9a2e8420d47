//! The names in a client's certificate. It was verified before; nothing here decides whether it may be trusted.

/// Its subject's common names, and its alternative names that are DNS names, e-mail addresses or URIs. What cannot be
/// read gives no names.
pub(crate) fn names(certificate: &[u8]) -> Vec<String> {
    read(certificate).unwrap_or_default()
}

// The tags of DER that matter here.
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// `rfc822Name`, `dNSName` and `uniformResourceIdentifier` of a `GeneralName`.
const NAMES: [u8; 3] = [0x81, 0x82, 0x86];
/// `UTF8String`, `PrintableString` and `IA5String`: every text that newer certificates hold.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

fn read(certificate: &[u8]) -> Option<Vec<String>> {
    let mut outer = Der(certificate).expect(SEQUENCE)?;
    let mut body = outer.expect(SEQUENCE)?;
    if body.peek() == Some(VERSION) {
        body.next()?;
    }
    // Serial number, signature, issuer and validity stand before the subject, its key after it.
    for _ in 0..4 {
        body.next()?;
    }
    let mut names = Vec::new();
    common_names(body.expect(SEQUENCE)?, &mut names)?;
    while let Some((tag, content)) = body.next() {
        if tag == EXTENSIONS {
            alternative_names(Der(content).expect(SEQUENCE)?, &mut names)?;
        }
    }
    Some(names)
}

fn common_names(mut subject: Der<'_>, names: &mut Vec<String>) -> Option<()> {
    while subject.peek().is_some() {
        let mut attributes = subject.expect(SET)?;
        while attributes.peek().is_some() {
            let mut attribute = attributes.expect(SEQUENCE)?;
            let is_name = attribute.expect(OBJECT_ID)?.0 == COMMON_NAME;
            let (tag, value) = attribute.next()?;
            if is_name && TEXTS.contains(&tag) {
                names.push(std::str::from_utf8(value).ok()?.to_owned());
            }
        }
    }
    Some(())
}

fn alternative_names(mut extensions: Der<'_>, names: &mut Vec<String>) -> Option<()> {
    while extensions.peek().is_some() {
        let mut extension = extensions.expect(SEQUENCE)?;
        if extension.expect(OBJECT_ID)?.0 != ALTERNATIVE_NAMES {
            continue;
        }
        // `critical` may stand between.
        let octets = std::iter::from_fn(|| extension.next()).find(|(tag, _)| *tag == OCTETS)?.1;
        let mut all = Der(octets).expect(SEQUENCE)?;
        while let Some((tag, name)) = all.next() {
            if NAMES.contains(&tag) {
                names.push(std::str::from_utf8(name).ok()?.to_owned());
            }
        }
    }
    Some(())
}

/// The values of one level, one after the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next value: its tag and its content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&short, rest) = rest.split_first()?;
        let (length, rest) = match short {
            0..=0x7f => (usize::from(short), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next value, which has that tag.
    fn expect(&mut self, tag: u8) -> Option<Der<'a>> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| Der(content))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common_name: &str) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["reports.example".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::OrganizationName, "Not a name");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names.push(SanType::URI("spiffe://example/reports".try_into().unwrap()));
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_common_name_and_the_alternative_names_are_found() {
        let expected = ["Berichte ü", "reports.example", "spiffe://example/reports"];
        assert_eq!(names(&certificate("Berichte ü")), expected);
    }

    #[test]
    fn damaged_bytes_are_read_without_a_panic() {
        let whole = certificate("reports");
        for length in 0..whole.len() {
            names(&whole[..length]);
        }
        for index in 0..whole.len() {
            for flipped in [0x01, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[index] ^= flipped;
                names(&damaged);
            }
        }
    }
}
