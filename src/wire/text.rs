//! Text of a payload that is looked at and not kept.

use std::borrow::Cow;
use std::ops::Deref;

use serde::Deserialize;

/// A piece of what is read, unless it holds escapes. By itself an optional `Cow` is always copied.
#[derive(Debug, Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_escapes_are_copied() {
        let plain: Option<Text<'_>> = serde_json::from_str(r#""x y""#).unwrap();
        assert!(matches!(plain, Some(Text(Cow::Borrowed("x y")))), "{plain:?}");
        let escaped: Text<'_> = serde_json::from_str(r#""x\ny""#).unwrap();
        assert_eq!(&*escaped, "x\ny");
    }
}
