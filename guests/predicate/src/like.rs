//! Patterns of `like`.

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Like {
    /// no wildcard
    Exactly(Vec<u8>),
    /// a literal and then `%`
    Prefix(Vec<u8>),
    /// anything else
    Pieces(Vec<Piece>),
}

/// A piece of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// this byte
    Byte(u8),
    /// `_`: one character
    One,
    /// `%`: any run
    Any,
}

impl Like {
    /// Compiles a pattern: `%` any run, `_` one character, `\` takes the next character as it is.
    pub fn compile(pattern: &str) -> Self {
        let mut pieces = Vec::new();
        let mut bytes = pattern.bytes().peekable();
        while let Some(byte) = bytes.next() {
            pieces.push(match byte {
                b'%' => Piece::Any,
                b'_' => Piece::One,
                b'\\' => Piece::Byte(bytes.next().unwrap_or(b'\\')),
                byte => Piece::Byte(byte),
            });
        }
        let plain: Vec<u8> = pieces
            .iter()
            .map_while(|piece| if let Piece::Byte(byte) = piece { Some(*byte) } else { None })
            .collect();
        match &pieces[plain.len()..] {
            [] => Like::Exactly(plain),
            [Piece::Any] => Like::Prefix(plain),
            _ => Like::Pieces(pieces),
        }
    }

    /// Whether a value matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Like::Exactly(plain) => text == plain.as_slice(),
            Like::Prefix(plain) => text.starts_with(plain),
            Like::Pieces(pieces) => pieces_match(pieces, text),
        }
    }
}

/// Each `Any` takes as little as it can; the last one takes more when what follows does not fit.
fn pieces_match(pieces: &[Piece], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() || p < pieces.len() {
        match pieces.get(p) {
            Some(Piece::Any) => {
                p += 1;
                retry = Some((p, t));
            }
            Some(Piece::Byte(byte)) if text.get(t) == Some(byte) => {
                p += 1;
                t += 1;
            }
            Some(Piece::One) if t < text.len() => {
                p += 1;
                t += char_bytes(text, t);
            }
            _ => match retry {
                Some((after, from)) if from < text.len() => {
                    p = after;
                    t = from + char_bytes(text, from);
                    retry = Some((after, t));
                }
                _ => return false,
            },
        }
    }
    true
}

/// How many bytes the character at `at` has.
fn char_bytes(text: &[u8], at: usize) -> usize {
    1 + text[at + 1..].iter().take_while(|byte| **byte & 0xc0 == 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::Like;

    #[test]
    fn patterns_match_as_in_sql() {
        for (pattern, text, expected) in [
            ("active%", "active", true),
            ("active%", "inactive", false),
            ("%active", "inactive", true),
            ("%a%b%", "xxaxxbxx", true),
            ("%a%b%", "xxbxxaxx", false),
            ("_", "ä", true),
            ("__", "ä", false),
            ("a_c%", "abcd", true),
            ("100\\%", "100%", true),
            ("100\\%", "1000", false),
            ("", "", true),
            ("%", "", true),
            ("_%", "", false),
            ("%ab", "aab", true),
            ("%aab%_", "aaaab", false),
        ] {
            assert_eq!(Like::compile(pattern).matches(text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn the_common_shapes_have_short_cuts() {
        assert_eq!(Like::compile("ab%"), Like::Prefix(b"ab".to_vec()));
        assert_eq!(Like::compile("a\\_b"), Like::Exactly(b"a_b".to_vec()));
        assert!(matches!(Like::compile("ab%%"), Like::Pieces(_)));
    }
}
