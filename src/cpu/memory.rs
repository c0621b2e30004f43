//! Memory of the backend: shared by plans and their owner, counted, and allocated without a panic.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::rc::Rc;

use crate::error::{Error, Result};

/// Bytes in live buffers.
pub type Account = Rc<Cell<u64>>;

struct Held<T> {
    value: RefCell<T>,
    bytes: u64,
    account: Account,
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        self.account.set(self.account.get() - self.bytes);
    }
}

/// A value that a plan and its owner share; freed with the last of them. One thread, and no operation
/// works twice on the same buffer, so that a borrow cannot meet another.
pub struct Shared<T>(Rc<Held<T>>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared(self.0.clone())
    }
}

impl<T> Shared<T> {
    pub fn new(account: &Account, bytes: u64, value: T) -> Self {
        account.set(account.get() + bytes);
        Shared(Rc::new(Held { value: RefCell::new(value), bytes, account: account.clone() }))
    }

    pub fn read(&self) -> Ref<'_, T> {
        self.0.value.borrow()
    }

    pub fn write(&self) -> RefMut<'_, T> {
        self.0.value.borrow_mut()
    }

    /// Whether both are one buffer.
    pub fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

/// Zeroes.
pub fn zeroed<T: bytemuck::Pod>(label: &str, count: u64) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let len = usize::try_from(count).ok().filter(|&len| values.try_reserve_exact(len).is_ok());
    let Some(len) = len else {
        let bytes = count.saturating_mul(size_of::<T>() as u64);
        return Err(Error::OutOfMemory { what: label.to_owned(), bytes });
    };
    values.resize(len, T::zeroed());
    Ok(values)
}

/// Zeroed floats.
pub fn floats(account: &Account, label: &str, count: u64) -> Result<Shared<Vec<f32>>> {
    let values = zeroed(label, count)?;
    Ok(Shared::new(account, count * 4, values))
}
