//! A setting's value before it is known what it should be.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::ConfigError;

/// Whatever a configuration file may hold for a key.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Value {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    Map(Table),
}

pub(super) type Table = BTreeMap<String, Value>;

impl Value {
    /// For messages: what it is, without showing it if it is text that might be a secret.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Bool(b) => b.to_string(),
            Self::Int(i) => i.to_string(),
            Self::Float(f) => f.to_string(),
            Self::Text(_) => "text".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a table".to_owned(),
        }
    }

    fn wrong(&self, key: &str, allowed: &'static str) -> ConfigError {
        ConfigError::invalid(key, self.shown(), allowed)
    }

    pub(super) fn bool(&self, key: &str) -> Result<bool, ConfigError> {
        match self {
            Self::Bool(b) => Ok(*b),
            other => Err(other.wrong(key, "true, false")),
        }
    }

    pub(super) fn int<T: TryFrom<i64>>(&self, key: &str, allowed: &'static str) -> Result<T, ConfigError> {
        match self {
            Self::Int(i) => T::try_from(*i).map_err(|_| self.wrong(key, allowed)),
            other => Err(other.wrong(key, allowed)),
        }
    }

    pub(super) fn text(&self, key: &str, allowed: &'static str) -> Result<&str, ConfigError> {
        match self {
            Self::Text(text) => Ok(text),
            other => Err(other.wrong(key, allowed)),
        }
    }

    pub(super) fn table(&self, key: &str, allowed: &'static str) -> Result<&Table, ConfigError> {
        match self {
            Self::Map(table) => Ok(table),
            other => Err(other.wrong(key, allowed)),
        }
    }

    pub(super) fn list(&self, key: &str, allowed: &'static str) -> Result<&[Self], ConfigError> {
        match self {
            Self::List(list) => Ok(list),
            other => Err(other.wrong(key, allowed)),
        }
    }
}
