//! Map memory that another CPU or the daemon may write while it is read. The only `unsafe` of this crate.

#![allow(
    unsafe_code,
    reason = "volatile access to shared memory lives here and nowhere else"
)]

use core::cell::UnsafeCell;

/// A plain field of a map value that somebody else may overwrite at any time.
///
/// Each access is one volatile access: nothing is assumed about it before or after. What several such fields say
/// together is only trusted when the owner's generation is unchanged after they were read (see [`super::conn`]).
#[repr(transparent)]
#[derive(Default)]
pub struct Shared<T>(UnsafeCell<T>);

// SAFETY: all access is by volatile copies of plain words; a torn or stale value is a wrong value, which readers
// detect by the generation, never an invalid one: every bit pattern of the `T`s used in the ABI is valid.
unsafe impl<T: Copy + Send> Sync for Shared<T> {}

impl<T: Copy> Shared<T> {
    /// A field with this value.
    #[inline(always)]
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// The value now.
    #[inline(always)]
    pub fn load(&self) -> T {
        // SAFETY: the pointer comes from a live cell of the same type and is aligned.
        unsafe { self.0.get().read_volatile() }
    }

    /// For atomic operations, where they are more than a load or a store.
    #[inline(always)]
    pub const fn as_ptr(&self) -> *mut T {
        self.0.get()
    }

    /// Sets the value.
    #[inline(always)]
    pub fn store(&self, value: T) {
        // SAFETY: the pointer comes from a live cell of the same type and is aligned.
        unsafe { self.0.get().write_volatile(value) }
    }
}

impl<T: Copy + core::fmt::Debug> core::fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.load().fmt(f)
    }
}

impl<T: Copy> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self::new(self.load())
    }
}
