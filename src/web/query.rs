//! Query strings: named values, each refused by its name.

use std::convert::Infallible;
use std::str::FromStr;

use warp::Filter;

use super::problem::{ApiError, Code};
use crate::domain::{Cursor, ListCursor, limits};

/// Entries of a page whose reader names no limit.
const USUAL_PAGE: usize = 50;

/// The decoded `name=value` pairs of a request.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

/// Extracts the query string; a request without one has an empty query.
pub fn query() -> impl Filter<Extract = (Query,), Error = Infallible> + Copy {
    warp::query::<Vec<(String, String)>>().map(Query).or(warp::any().map(Query::default)).unify()
}

impl Query {
    /// Refuses names that this route does not know, and names that are given twice.
    pub fn only(self, names: &[&str]) -> Result<Self, ApiError> {
        for (place, (name, _)) in self.0.iter().enumerate() {
            if !names.contains(&name.as_str()) {
                let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                return Err(ApiError::new(Code::UnknownField, format!("this address takes no parameter {name:?}"))
                    .field(name)
                    .next(format!("known parameters: {known}")));
            }
            if self.0[..place].iter().any(|(earlier, _)| earlier == name) {
                return Err(ApiError::invalid_field(name, format!("the parameter {name:?} is given twice")));
            }
        }
        Ok(self)
    }

    /// The value of `name`, which may be empty: a lost cursor must not read as "no cursor".
    pub fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(given, _)| given == name)?;
        Some(value)
    }

    /// The value of `name` as a `T`; `expected` says what that is: "a number from 1 to 500".
    pub fn parse<T: FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(ApiError::invalid_field(name, format!("the parameter {name:?} must be {expected}"))),
        }
    }

    /// How long a page may be: `limit`, or the usual length.
    pub fn limit(&self) -> Result<usize, ApiError> {
        let expected = format!("a number from 1 to {}", limits::PAGE);
        let limit = self.parse("limit", &expected)?.unwrap_or(USUAL_PAGE);
        if (1..=limits::PAGE).contains(&limit) {
            return Ok(limit);
        }
        Err(ApiError::invalid_field("limit", format!("the parameter \"limit\" must be {expected}")))
    }

    /// The value of `name` as a position in the record.
    pub fn cursor(&self, name: &str) -> Result<Option<Cursor>, ApiError> {
        self.text(name).map(|text| cursor(name, text)).transpose()
    }

    /// The value of `name` as a position in a list of conversations.
    pub fn list_cursor(&self, name: &str) -> Result<Option<ListCursor>, ApiError> {
        let refused =
            |_| ApiError::new(Code::InvalidCursor, format!("`{name}` is the `next` of an earlier answer")).field(name);
        self.text(name).map(ListCursor::parse).transpose().map_err(refused)
    }
}

/// A position in the record, given in the named place.
pub fn cursor(name: &str, text: &str) -> Result<Cursor, ApiError> {
    Cursor::parse(text).map_err(|error| ApiError::new(Code::InvalidCursor, error.to_string()).field(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Query {
        Query(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_value_is_read_by_its_name() {
        let query = of(&[("limit", "50"), ("after", "")]).only(&["limit", "after"]).unwrap();
        assert_eq!(query.parse::<usize>("limit", "a number").unwrap(), Some(50));
        assert_eq!(query.text("after"), Some(""));
        assert_eq!(query.parse::<usize>("wait", "a number").unwrap(), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let unknown = of(&[("limt", "5")]).only(&["limit"]).unwrap_err();
        assert_eq!((unknown.code(), unknown.extra("field")), (Code::UnknownField, Some("limt".into())));
        let twice = of(&[("limit", "5"), ("limit", "6")]).only(&["limit"]).unwrap_err();
        assert_eq!((twice.code(), twice.extra("field")), (Code::InvalidField, Some("limit".into())));
        let wrong = of(&[("limit", "-1")]).parse::<usize>("limit", "a number from 1 to 500").unwrap_err();
        assert_eq!(wrong.detail(), "the parameter \"limit\" must be a number from 1 to 500");
    }
}
