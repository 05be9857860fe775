use counterweight::error::{Error, Result};
use tch::TchError;

/// Makes the errors of libtorch ours.
pub(crate) trait Torch<T> {
    /// The value, or [`Error::Engine`].
    fn torch(self) -> Result<T>;
}

impl<T> Torch<T> for Result<T, TchError> {
    fn torch(self) -> Result<T> {
        self.map_err(|error| Error::Engine(Box::new(error)))
    }
}
