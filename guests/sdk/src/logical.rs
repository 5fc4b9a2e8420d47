//! What a column's values mean, read from the open set of names in the contract.

/// A logical type that this version of the SDK knows, or `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logical {
    /// true or false
    Bool,
    /// signed integer
    Int64,
    /// unsigned integer
    Uint64,
    /// binary floating point
    Float64,
    /// plain decimal text with that many digits, and so many after the point
    Decimal {
        /// digits in all
        precision: u16,
        /// digits after the point
        scale: u16,
    },
    /// UTF-8
    Text,
    /// a JSON document as text
    Json,
    /// any bytes
    Bytes,
    /// 16 bytes
    Uuid,
    /// days since 1970-01-01
    Date,
    /// signed duration in microseconds
    Time,
    /// microseconds since 1970-01-01, without a zone
    Datetime,
    /// microseconds since 1970-01-01 UTC
    Timestamp,
    /// a name that came after this SDK
    Other,
}

impl Logical {
    /// Reads a name of the contract.
    pub fn parse(name: &str) -> Self {
        match name {
            "bool" => Logical::Bool,
            "int64" => Logical::Int64,
            "uint64" => Logical::Uint64,
            "float64" => Logical::Float64,
            "text" => Logical::Text,
            "json" => Logical::Json,
            "bytes" => Logical::Bytes,
            "uuid" => Logical::Uuid,
            "date" => Logical::Date,
            "time" => Logical::Time,
            "datetime" => Logical::Datetime,
            "timestamp" => Logical::Timestamp,
            _ => Self::parse_decimal(name).unwrap_or(Logical::Other),
        }
    }

    fn parse_decimal(name: &str) -> Option<Self> {
        let (precision, scale) = name.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
        Some(Logical::Decimal {
            precision: precision.trim().parse().ok()?,
            scale: scale.trim().parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Logical;

    #[test]
    fn names_of_the_contract_are_known() {
        assert_eq!(Logical::parse("timestamp"), Logical::Timestamp);
        assert_eq!(Logical::parse("decimal(65,30)"), Logical::Decimal { precision: 65, scale: 30 });
        assert_eq!(Logical::parse("decimal(,)"), Logical::Other);
        assert_eq!(Logical::parse("geometry"), Logical::Other);
    }
}
