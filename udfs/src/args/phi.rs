//! The balancing representation φ: nothing, columns or lists, read in place.

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type};
use datafusion_common::{Result, internal_err};

use super::spec::Spec;

/// φ of every row of a batch.
pub(crate) enum Phi<'a> {
    /// φ = 1
    One,
    Columns(Vec<&'a Float64Array>),
    Lists(Lists<'a>),
}

/// A list column, whatever its kind.
pub(crate) struct Lists<'a> {
    array: &'a ArrayRef,
    offsets: Offsets<'a>,
    elements: &'a ArrayRef,
    /// Elements in every list of the rows that count.
    width: usize,
}

enum Offsets<'a> {
    Fixed(usize),
    Small(&'a [i32]),
    Large(&'a [i64]),
}

impl Offsets<'_> {
    fn start(&self, row: usize) -> usize {
        match self {
            Offsets::Fixed(width) => row * width,
            Offsets::Small(offsets) => offsets[row] as usize,
            Offsets::Large(offsets) => offsets[row] as usize,
        }
    }

    fn len(&self, row: usize) -> usize {
        self.start(row + 1) - self.start(row)
    }
}

impl<'a> Phi<'a> {
    pub(crate) fn read(arrays: &'a [ArrayRef]) -> Result<Self> {
        let [array] = arrays else {
            return Ok(match arrays {
                [] => Phi::One,
                _ => Phi::Columns(arrays.iter().map(AsArray::as_primitive).collect()),
            });
        };
        let (offsets, elements) = match array.data_type() {
            DataType::Float64 => return Ok(Phi::Columns(vec![array.as_primitive()])),
            DataType::List(_) => {
                let lists = array.as_list::<i32>();
                (Offsets::Small(lists.value_offsets()), lists.values())
            }
            DataType::LargeList(_) => {
                let lists = array.as_list::<i64>();
                (Offsets::Large(lists.value_offsets()), lists.values())
            }
            DataType::FixedSizeList(_, width) => {
                let lists = array.as_fixed_size_list();
                (Offsets::Fixed(*width as usize), lists.values())
            }
            other => return internal_err!("phi of type {other} was not coerced"),
        };
        Ok(Phi::Lists(Lists { array, offsets, elements, width: 0 }))
    }

    /// Rows without a NULL anywhere in φ.
    pub(crate) fn nulls(&self) -> Option<NullBuffer> {
        match self {
            Phi::One => None,
            Phi::Columns(columns) => NullBuffer::union_many(columns.iter().map(|c| c.nulls())),
            Phi::Lists(lists) => NullBuffer::union(lists.array.nulls(), lists.whole().as_ref()),
        }
    }

    /// Which of `rows` rows have no NaN or infinity in φ.
    pub(crate) fn finite(&self, rows: usize) -> Result<BooleanBuffer> {
        let is_finite = |numbers: &Float64Array, at: usize| numbers.is_null(at) || numbers.value(at).is_finite();
        Ok(match self {
            Phi::One => BooleanBuffer::new_set(rows),
            Phi::Columns(columns) => {
                BooleanBuffer::collect_bool(rows, |row| columns.iter().all(|column| is_finite(column, row)))
            }
            Phi::Lists(lists) => {
                let elements = cast(lists.elements, &DataType::Float64)?;
                let elements = elements.as_primitive();
                let row_is_finite = |row| {
                    let start = lists.offsets.start(row);
                    lists.array.is_null(row)
                        || (start..start + lists.offsets.len(row)).all(|at| is_finite(elements, at))
                };
                BooleanBuffer::collect_bool(rows, row_is_finite)
            }
        })
    }

    /// Settles the number of elements a row, that of the `first` row that counts, or fails if
    /// another row differs in it.
    pub(crate) fn measure(&mut self, spec: &Spec, selection: Option<&[usize]>, first: usize) -> Result<()> {
        let Phi::Lists(lists) = self else {
            return Ok(());
        };
        let width = lists.offsets.len(first);
        let other = match (&lists.offsets, selection) {
            (Offsets::Fixed(_), _) => None,
            (offsets, None) => (0..lists.array.len()).find(|&row| offsets.len(row) != width),
            (offsets, Some(rows)) => rows.iter().copied().find(|&row| offsets.len(row) != width),
        };
        if let Some(other) = other {
            return Err(spec.two_lengths(width, lists.offsets.len(other)));
        }
        if width == 0 {
            return Err(spec.phi_error("is an empty list: leave phi out to balance on phi = 1"));
        }
        lists.width = width;
        Ok(())
    }

    /// Elements a row.
    pub(crate) fn width(&self) -> usize {
        match self {
            Phi::One => 1,
            Phi::Columns(columns) => columns.len(),
            Phi::Lists(lists) => lists.width,
        }
    }

    /// For each of `weights`, writes `weight · φ(row(i))` at `lead` of the `i`-th piece of `out`,
    /// a piece being `stride` long.
    pub(crate) fn weigh(
        &self,
        weights: &[f64],
        row: impl Fn(usize) -> usize,
        stride: usize,
        lead: usize,
        out: &mut [f64],
    ) {
        match self {
            Phi::One => {
                for (piece, &weight) in out.chunks_exact_mut(stride).zip(weights) {
                    piece[lead] = weight;
                }
            }
            Phi::Columns(columns) => {
                // Four columns at a time: few streams to read, and whole stretches to write.
                for (at, columns) in columns.chunks(4).enumerate() {
                    let lead = lead + 4 * at;
                    let columns: Vec<&[f64]> = columns.iter().map(|column| &column.values()[..]).collect();
                    for (i, (piece, &weight)) in out.chunks_exact_mut(stride).zip(weights).enumerate() {
                        let row = row(i);
                        for (x, column) in piece[lead..].iter_mut().zip(&columns) {
                            *x = weight * column[row];
                        }
                    }
                }
            }
            Phi::Lists(lists) => match lists.elements.data_type() {
                DataType::Float16 => {
                    let elements = lists.elements.as_primitive::<Float16Type>().values();
                    lists.weigh(elements, weights, row, stride, lead, out);
                }
                DataType::Float32 => {
                    let elements = lists.elements.as_primitive::<Float32Type>().values();
                    lists.weigh(elements, weights, row, stride, lead, out);
                }
                _ => {
                    let elements = lists.elements.as_primitive::<Float64Type>().values();
                    lists.weigh(elements, weights, row, stride, lead, out);
                }
            },
        }
    }

    /// ‖φ‖² of each of the `len` rows that count.
    pub(crate) fn squared_norms(&self, selection: Option<&[usize]>, len: usize) -> Vec<f64> {
        self.elements(selection, len).chunks_exact(self.width()).map(|phi| phi.iter().map(|x| x * x).sum()).collect()
    }

    /// A NaN or infinite element among `len` rows that count, if there is one.
    pub(crate) fn find_not_finite(&self, selection: Option<&[usize]>, len: usize) -> Option<f64> {
        self.elements(selection, len).into_iter().find(|value| !value.is_finite())
    }

    /// φ of each of the `len` rows that count, end to end.
    fn elements(&self, selection: Option<&[usize]>, len: usize) -> Vec<f64> {
        let width = self.width();
        let mut elements = vec![0.0; len * width];
        self.weigh(&vec![1.0; len], |i| selection.map_or(i, |rows| rows[i]), width, 0, &mut elements);
        elements
    }
}

impl Lists<'_> {
    /// Rows whose list holds no NULL element, `None` if no list does.
    fn whole(&self) -> Option<NullBuffer> {
        let nulls = self.elements.nulls().filter(|nulls| nulls.null_count() > 0)?;
        let whole = BooleanBuffer::collect_bool(self.array.len(), |row| {
            let list = nulls.slice(self.offsets.start(row), self.offsets.len(row));
            list.null_count() == 0
        });
        Some(NullBuffer::new(whole))
    }

    fn weigh<T: Copy + Into<f64>>(
        &self,
        elements: &[T],
        weights: &[f64],
        row: impl Fn(usize) -> usize,
        stride: usize,
        lead: usize,
        out: &mut [f64],
    ) {
        let pieces = out.chunks_exact_mut(stride).zip(weights).enumerate();
        for (i, (piece, &weight)) in pieces {
            let start = self.offsets.start(row(i));
            let list = &elements[start..start + self.width];
            for (x, &element) in piece[lead..].iter_mut().zip(list) {
                *x = weight * element.into();
            }
        }
    }
}
