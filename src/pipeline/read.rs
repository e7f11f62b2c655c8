//! `Node` as a serde deserializer: every error knows its place.

use std::{fmt, ops::Range};

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Error, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};

use super::{
    Fault, Node,
    node::{Content, Key},
    words::{list, remedy},
};

impl de::Error for Fault {
    /// Sentences of our own types give the remedy after a semicolon.
    fn custom<T: fmt::Display>(why: T) -> Fault {
        let text = why.to_string();
        match text.split_once("; ") {
            Some((why, help)) => Fault::new(why).help(help),
            None => Fault::new(text),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Fault {
        Fault::new(format!("expected {expected}, found {found}"))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Fault {
        Fault::new(format!("expected {expected}, found {found}"))
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Fault {
        Fault::new(format!("unknown word `{word}`")).help(remedy(word, "words", known))
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Fault {
        Fault::new(format!("unknown key `{key}`")).help(remedy(key, "keys", known))
    }

    fn missing_field(key: &'static str) -> Fault {
        Fault::new(format!("the key `{key}` is missing"))
    }
}

impl Node {
    fn wrong(&self, expected: impl fmt::Display) -> Fault {
        self.fault(format!("expected {expected}, found {}", self.found()))
    }

    fn plain(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, plain: true } => Some(text),
            Content::Scalar { .. } | Content::List(_) | Content::Map(_) => None,
        }
    }

    fn string(&self) -> Result<&str, Fault> {
        self.text().ok_or_else(|| self.wrong("text"))
    }

    fn bool(&self) -> Result<bool, Fault> {
        match self.plain() {
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            _ => Err(self.wrong("`true` or `false`")),
        }
    }

    fn whole<N: std::str::FromStr + fmt::Display>(&self) -> Result<N, Fault> {
        let number = self.plain().and_then(|text| Some((text, text.parse::<N>().ok()?)));
        match number {
            // `0755` and `+5` mean different things to different readers.
            Some((text, number)) if number.to_string() == text => Ok(number),
            _ if self.plain().is_some_and(|t| t.parse::<i128>().is_ok_and(|n| n.to_string() == t)) => {
                Err(self.wrong("a whole number in a smaller range"))
            }
            _ => Err(self.wrong("a whole number")),
        }
    }

    fn float(&self) -> Result<f64, Fault> {
        let number = self.plain().and_then(|text| text.parse::<f64>().ok()).filter(|n| n.is_finite());
        number.ok_or_else(|| self.wrong("a number"))
    }

    /// `visit` with errors that know at least this place.
    fn located<T>(&self, result: Result<T, Fault>) -> Result<T, Fault> {
        result.map_err(|fault| fault.or_at(self.place()))
    }

    fn check_keys(&self, known: &'static [&'static str]) -> Result<(), Fault> {
        let unknown = self.entries().iter().find(|(key, _)| !known.contains(&key.text.as_str()));
        match unknown {
            Some((key, _)) => Err(Fault::unknown_field(&key.text, known).at(key.span.clone())),
            None => Ok(()),
        }
    }
}

macro_rules! whole_numbers {
    ($($method:ident $visit:ident $type:ty),*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.located(visitor.$visit(self.whole::<$type>()?))
        })*
    };
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Fault;

    /// For untyped values: a number only when its text is the number's own form, so that `1.20` stays text.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let result = match &self.content {
            Content::List(_) => return self.deserialize_seq(visitor),
            Content::Map(_) => return self.deserialize_map(visitor),
            Content::Scalar { .. } if self.is_null() => visitor.visit_unit(),
            Content::Scalar { text, plain: true } => match text.as_str() {
                "true" => visitor.visit_bool(true),
                "false" => visitor.visit_bool(false),
                text => match (self.whole::<i64>(), self.float()) {
                    (Ok(number), _) => visitor.visit_i64(number),
                    (_, Ok(number)) if number.to_string() == text => visitor.visit_f64(number),
                    _ => visitor.visit_borrowed_str(text),
                },
            },
            Content::Scalar { text, plain: false } => visitor.visit_borrowed_str(text),
        };
        self.located(result)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.located(visitor.visit_bool(self.bool()?))
    }

    whole_numbers! {
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64, deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.located(visitor.visit_f64(self.float()?))
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.located(visitor.visit_borrowed_str(self.string()?))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.is_null() {
            true => self.located(visitor.visit_none()),
            false => self.located(visitor.visit_some(self)),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.is_null() {
            true => self.located(visitor.visit_unit()),
            false => Err(self.wrong("nothing")),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        self.located(visitor.visit_newtype_struct(self))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if !self.is_list() && !self.is_null() {
            return Err(self.wrong("a list").help("a list is written `[a, b]`, or with a `- ` before each line"));
        }
        let mut items = Items(self.items().iter());
        let value = self.located(visitor.visit_seq(&mut items))?;
        match items.0.next() {
            Some(extra) => Err(extra.fault("the list has more items than belong here")),
            None => Ok(value),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if !self.is_map() && !self.is_null() {
            return Err(self.wrong("a mapping of keys to values"));
        }
        self.located(visitor.visit_map(Entries { rest: self.entries().iter(), value: None }))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if !self.is_map() && !self.is_null() {
            return Err(self.wrong("a mapping").help(format!("known keys: {}", list(known))));
        }
        self.check_keys(known)?;
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let (word, span, value) = match (self.text(), self.entries()) {
            (Some(word), _) => (word, self.place(), None),
            (None, [(key, value)]) => (key.text.as_str(), key.span.clone(), Some(value)),
            _ => return Err(self.wrong(format!("one of {}", list(known)))),
        };
        if !known.contains(&word) {
            return Err(Fault::unknown_variant(word, known).at(span));
        }
        self.located(visitor.visit_enum(Choice { word, span, value }))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }
}

struct Items<'de>(std::slice::Iter<'de, Node>);

impl<'de> SeqAccess<'de> for &mut Items<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.0.next().map(|node| seed.deserialize(node).map_err(|f| f.or_at(node.place()))).transpose()
    }
}

struct Entries<'de> {
    rest: std::slice::Iter<'de, (Key, Node)>,
    value: Option<&'de Node>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(Word(&key.text)).map(Some).map_err(|fault| fault.or_at(key.span.clone()))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        let node = self.value.take().ok_or_else(|| Fault::new("a value without a key"))?;
        seed.deserialize(node).map_err(|fault| fault.or_at(node.place()))
    }
}

/// A key: text, or a number where the map's keys are numbers.
struct Word<'de>(&'de str);

macro_rules! number_keys {
    ($($method:ident $visit:ident),*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match self.0.parse() {
                Ok(number) => visitor.$visit(number),
                Err(_) => Err(Fault::new(format!("expected a whole number as key, found `{}`", self.0))),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Word<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_borrowed_str(self.0)
    }

    number_keys! {
        deserialize_i8 visit_i8, deserialize_i16 visit_i16, deserialize_i32 visit_i32, deserialize_i64 visit_i64,
        deserialize_u8 visit_u8, deserialize_u16 visit_u16, deserialize_u32 visit_u32, deserialize_u64 visit_u64
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    serde::forward_to_deserialize_any! {
        bool f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

/// A word that chooses a variant, with what belongs to it.
struct Choice<'de> {
    word: &'de str,
    span: Range<usize>,
    value: Option<&'de Node>,
}

impl<'de> EnumAccess<'de> for Choice<'de> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let variant = seed.deserialize(Word(self.word)).map_err(|fault| fault.or_at(self.span.clone()))?;
        Ok((variant, self))
    }
}

impl<'de> Choice<'de> {
    fn content(self) -> Result<&'de Node, Fault> {
        let missing = || Fault::new(format!("`{}` needs a value", self.word)).at(self.span.clone());
        self.value.ok_or_else(|| missing().help(format!("write it as `{}: …`", self.word)))
    }
}

impl<'de> VariantAccess<'de> for Choice<'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.value {
            Some(node) if !node.is_null() => Err(node.fault(format!("`{}` takes no value", self.word))),
            _ => Ok(()),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        let node = self.content()?;
        seed.deserialize(node).map_err(|fault| fault.or_at(node.place()))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.content()?.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, known: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        self.content()?.deserialize_struct("", known, visitor)
    }
}
