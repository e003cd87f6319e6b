//! What the caller's small integers stand for.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use streaming_daemon_border::Status;

/// Locks, also after a panic: the object is then given up by the caller (`PANIC`), but can still be closed.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Objects by handle. A handle is never given out twice, and an object lives on while a call uses it.
pub struct Registry<T>(Mutex<Entries<T>>);

struct Entries<T> {
    last: u32,
    live: BTreeMap<u32, Arc<T>>,
}

impl<T> Registry<T> {
    /// An empty one.
    pub const fn new() -> Registry<T> {
        Registry(Mutex::new(Entries { last: 0, live: BTreeMap::new() }))
    }

    /// Gives `object` the next handle.
    pub fn insert(&self, object: Arc<T>) -> Result<u32, Status> {
        let mut entries = lock(&self.0);
        entries.last = entries.last.checked_add(1).ok_or(Status(-libc::ENOSPC))?;
        let handle = entries.last;
        entries.live.insert(handle, object);
        Ok(handle)
    }

    /// The object of that handle.
    pub fn get(&self, handle: u32) -> Result<Arc<T>, Status> {
        lock(&self.0).live.get(&handle).cloned().ok_or(Status::BAD_HANDLE)
    }

    /// Takes the object out; those who use it keep it alive.
    pub fn remove(&self, handle: u32) -> Result<Arc<T>, Status> {
        lock(&self.0).live.remove(&handle).ok_or(Status::BAD_HANDLE)
    }

    /// Takes out every object for which `which` holds.
    pub fn remove_where(&self, which: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        let live = &mut lock(&self.0).live;
        let handles: Vec<u32> =
            live.iter().filter(|(_, object)| which(object)).map(|(&handle, _)| handle).collect();
        handles.iter().filter_map(|handle| live.remove(handle)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_good_until_removed_and_never_comes_again() {
        let registry = Registry::new();
        assert_eq!(registry.get(0).err(), Some(Status::BAD_HANDLE));
        let first = registry.insert(Arc::new("first")).unwrap();
        assert_eq!(*registry.get(first).unwrap(), "first");
        registry.remove(first).unwrap();
        assert_eq!(registry.get(first).err(), Some(Status::BAD_HANDLE));
        assert_eq!(registry.remove(first).err(), Some(Status::BAD_HANDLE));
        assert_ne!(registry.insert(Arc::new("second")).unwrap(), first);
    }

    #[test]
    fn removes_what_the_predicate_names() {
        let registry = Registry::new();
        for n in 1..=4 {
            registry.insert(Arc::new(n)).unwrap();
        }
        let even = registry.remove_where(|n| n % 2 == 0);
        assert_eq!(even.iter().map(|n| **n).collect::<Vec<_>>(), [2, 4]);
        assert!(registry.get(1).is_ok() && registry.get(3).is_ok());
    }
}
