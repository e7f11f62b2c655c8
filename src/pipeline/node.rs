use serde::de::DeserializeOwned;

/// A piece of the file, with the place where it stands.
#[derive(Debug, Clone)]
pub struct Node(serde_json::Value);

/// What is wrong with a pipeline file, and where.
#[derive(Debug, Clone)]
pub struct Fault(pub String);

impl Node {
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        serde_json::from_value(self.0.clone()).map_err(|e| self.fault(e.to_string()))
    }

    pub fn fault(&self, why: String) -> Fault {
        Fault(why)
    }
}
