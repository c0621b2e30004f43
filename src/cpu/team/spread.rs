//! A slice that several threads write, each at places of its own.

use std::marker::PhantomData;
use std::ops::Range;

/// A `&mut [T]` that can be copied. It stays borrowed as long as a copy lives.
pub struct Spread<'a, T> {
    first: *mut T,
    len: usize,
    borrowed: PhantomData<&'a mut [T]>,
}

impl<T> Clone for Spread<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Spread<'_, T> {}

// SAFETY: as `&mut [T]`; that copies do not meet is a promise of those who call `part`.
unsafe impl<T: Send> Send for Spread<'_, T> {}
// SAFETY: the same; a shared reference gives no more than a copy does.
unsafe impl<T: Send> Sync for Spread<'_, T> {}

impl<'a, T> Spread<'a, T> {
    /// Of a slice.
    #[inline(always)]
    pub fn new(slice: &'a mut [T]) -> Self {
        Spread { first: slice.as_mut_ptr(), len: slice.len(), borrowed: PhantomData }
    }

    /// All of it from `at` on.
    #[inline(always)]
    pub fn from(self, at: usize) -> Self {
        let at = at.min(self.len);
        // SAFETY: within the slice, or just behind it.
        Spread { first: unsafe { self.first.add(at) }, len: self.len - at, ..self }
    }

    /// Some of it, or nothing where the range is not within.
    ///
    /// # Safety
    /// As long as the result lives, nobody else takes a part that overlaps it.
    #[inline(always)]
    pub unsafe fn part(self, range: Range<usize>) -> &'a mut [T] {
        debug_assert!(range.start <= range.end && range.end <= self.len);
        if range.start > range.end || range.end > self.len {
            return &mut [];
        }
        // SAFETY: within the slice, which is borrowed for 'a; nobody else has this part.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(range.start), range.end - range.start) }
    }
}
