//! Cells by number, kept from the first to the last that is in use.

/// Like an array of cells in which all beyond some stretch are as by default, and take no memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trimmed<T> {
    first: usize,
    cells: Vec<T>,
}

impl<T: Clone + Default> Trimmed<T> {
    /// The cell at a place, to change it.
    pub(super) fn cell(&mut self, at: usize) -> &mut T {
        if self.cells.is_empty() {
            self.first = at;
        }
        if at < self.first {
            self.cells.splice(..0, std::iter::repeat_n(T::default(), self.first - at));
            self.first = at;
        }
        let place = at - self.first;
        if place >= self.cells.len() {
            self.cells.resize(place + 1, T::default());
        }
        &mut self.cells[place]
    }

    /// The cells with their places, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        (self.first..).zip(&self.cells)
    }

    pub(super) fn first(&self) -> u64 {
        self.first as u64
    }

    pub(super) fn cells(&self) -> &[T] {
        &self.cells
    }

    /// Bytes on the heap.
    pub(super) fn size(&self) -> usize {
        self.cells.capacity() * size_of::<T>()
    }
}
