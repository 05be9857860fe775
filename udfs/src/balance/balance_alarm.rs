use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type};
use datafusion_common::{Result, ScalarValue, exec_err};
use datafusion_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion_expr::{
    Accumulator, AggregateUDFImpl, Documentation, EmitTo, Expr, GroupsAccumulator, ReversedUDAF, Signature,
};

use super::alarm_days::{Clusters, Day, Frozen, SQUARES, read};
use super::alarm_fold::{Direction, Settings, Watched};
use crate::args::{Call, Role, Spec};
use crate::docs;
use crate::results::{counts, list_type, lists, numbers, struct_fields, structs};
use crate::state::DAY_SUMS;
use crate::udaf::{Window, plain_only, refuse_distinct};

aggregate! {
    /// Whether the propensities have become worse than they were, over days, with one false-alarm rate for the year.
    ///
    /// Folds the states of days, in the order of `day`, beside the first `reference_days` of them. Gives a struct of
    /// `verdict` (`'alarm'`; `'steady'`; `'undecided'` while the reference is not complete, or where it is not known to a
    /// quarter of the tolerance); `level` and `threshold`, at which it alarms; `since`, the day on which the level reached it,
    /// which stays; `element`, in which the change is largest (1 is the constant); `days`, watched after the
    /// `reference_days`; lists with an entry for the constant and each element: `imbalance`, how far the reference itself is
    /// off, its `std_error`, the `change` of the last 7 days, all about in units of a standardised imbalance, and
    /// `design_effect`; and `truth_level` and `truth_since`, of a second detector that asks whether the propensities are
    /// right, not whether they have changed. If no imbalance changes by more than the tolerance, an alarm comes in the first
    /// 365 days with a probability of at most `false_alarms`, about. NULL if there is no state.
    ///
    /// # Details
    /// A direction d shifts logits by s where the propensity is `q = p·eˢᵈ/(1 − p + p·eˢᵈ)`. A shift worth the tolerance is
    /// `δ = tolerance / mean((1 − p)·d·z)`, over the reference. With s the shift that fits the reference and se its standard
    /// error, what is still right ends at `s ± (δ + 2.5·se)`; six bets a direction are on shifts of ½δ, δ and 2δ beyond, on
    /// either side. A day multiplies what a bet has won, and 1, by the likelihood of the shift it is on over that of the
    /// farthest that is right: `A ← (1 + A)·L`, the recursion of Shiryaev and Roberts. The level is the mean of A over all
    /// bets, the threshold `365 / false_alarms`. `truth` is the same with s and se 0.
    ///
    /// `ln L` is divided by the design effect, the largest of 1, `Σ S²/implied` over groups of clusters and days, and `Σ z²`
    /// of the days over the quantile of 10 % of its χ² law, S the sum of `d(o − q)` and z that of a day in units of its implied
    /// error; and is then cut at half the logarithm of the threshold times the number of bets, so that no single day after
    /// healthy ones alarms. se is the largest of what is implied, by day, by group of clusters and day, and by group of
    /// clusters over the whole reference. Beyond δ/4, a direction has no bets, and the verdict is `'undecided'` unless another
    /// direction alarms. Elements that do not vary in the reference are not watched; their entries are NULL.
    ///
    /// It keeps 31 numbers for each day and element, and three numbers for each group of clusters and element of the
    /// reference's days. Days need not follow each other without gaps.
    ///
    /// Source: Shiryaev, *On optimum methods in quickest detection problems*, 1963; Roberts, *A comparison of some control
    /// chart procedures*, 1966; Pollak, *Average run lengths of an optimal method of detecting a change in distribution*,
    /// 1987.
    balance_alarm(
        day: Expr,
        state: Expr,
        tolerance: Option<Expr>,
        false_alarms: Option<Expr>,
        reference_days: Option<Expr>
    ), balance_alarm_udaf: BalanceAlarm
}

const EXAMPLE: &str = "> WITH log AS (
    SELECT n / 1000 AS day, n % 10 < CASE WHEN n < 34000 THEN 1 ELSE 2 END AS clicked, 0.1 AS p
    FROM generate_series(0, 39999) AS rows (n)),
  reference AS (SELECT alarm_directions(clicked, p) AS directions FROM log WHERE day < 28),
  states AS (SELECT day, alarm_state(clicked, p, directions) AS state FROM log CROSS JOIN reference GROUP BY day)
  SELECT a['verdict'] AS verdict, a['since'] AS since, a['element'] AS element, round(a['change'][1], 2) AS change
  FROM (SELECT balance_alarm(day, state) AS a FROM states);
+---------+-------+---------+--------+
| verdict | since | element | change |
+---------+-------+---------+--------+
| alarm   | 35    | 1       | 0.65   |
+---------+-------+---------+--------+";

#[derive(Debug, PartialEq, Eq, Hash)]
struct BalanceAlarm {
    signature: Signature,
    documentation: Documentation,
}

impl BalanceAlarm {
    const SPEC: &'static Spec = &Spec::new(
        "balance_alarm",
        &[Role::Day, Role::DayState, Role::Tolerance, Role::FalseAlarms, Role::ReferenceDays],
    );

    fn new() -> Self {
        let documentation =
            docs::aggregate::<Self>(Self::SPEC, EXAMPLE, &["alarm_directions", "alarm_state", "balance_drift"]);
        Self { signature: Self::SPEC.signature(), documentation }
    }
}

fn alarm_fields(day: &DataType) -> Fields {
    struct_fields([
        ("verdict", DataType::Utf8),
        ("level", DataType::Float64),
        ("threshold", DataType::Float64),
        ("since", day.clone()),
        ("element", DataType::UInt64),
        ("days", DataType::UInt64),
        ("reference_days", DataType::UInt64),
        ("imbalance", list_type()),
        ("std_error", list_type()),
        ("change", list_type()),
        ("design_effect", list_type()),
        ("truth_level", DataType::Float64),
        ("truth_since", day.clone()),
    ])
}

impl AggregateUDFImpl for BalanceAlarm {
    fn name(&self) -> &str {
        Self::SPEC.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        Self::SPEC.coerce(arg_types)
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(alarm_fields(&arg_types[0])))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let days = DataType::new_list(args.input_fields[0].data_type().clone(), true);
        let fields = [("days", days)].into_iter().chain(LISTS.map(|name| (name, list_type())));
        let field = |(name, data_type)| Arc::new(Field::new(format_state_name(args.name, name), data_type, false));
        Ok(fields.map(field).collect())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Watch::new(&args)?))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Window::new(Self::SPEC.name, Watch::new(&args)?)))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Watches { empty: Watch::new(&args)?, groups: Vec::new() }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        Some(plain_only(Self::SPEC.name))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// The lists of numbers in which days travel between partitions, behind the days: numbers of each day and its groups of
/// clusters, end to end.
const LISTS: [&str; 8] = ["frozen", "counts", "sums", "squares", "groups", "lengths", "keys", "clusters"];

/// The days of one group that are known so far, in order.
#[derive(Debug, Clone)]
struct Watch {
    day_type: DataType,
    settings: Settings,
    /// The directions of all states; empty before there is one.
    frozen: Frozen,
    days: Vec<(ScalarValue, Day)>,
}

impl Watch {
    fn new(args: &AccumulatorArgs) -> Result<Self> {
        refuse_distinct(BalanceAlarm::SPEC.name, args.is_distinct)?;
        let call = Call::read(BalanceAlarm::SPEC, args)?;
        let settings = Settings {
            tolerance: call.literal(Role::Tolerance),
            false_alarms: call.literal(Role::FalseAlarms),
            reference_days: call.literal(Role::ReferenceDays) as usize,
        };
        Ok(Self {
            day_type: args.expr_fields[0].data_type().clone(),
            settings,
            frozen: Frozen::new(),
            days: Vec::new(),
        })
    }

    fn add(&mut self, values: &[ArrayRef], row: usize) -> Result<()> {
        let Some((frozen, state)) = read(BalanceAlarm::SPEC, &values[1], row)? else { return Ok(()) };
        let day = ScalarValue::try_from_array(&values[0], row)?;
        if day.is_null() {
            return exec_err!(
                "{}: argument 1 (day) is NULL beside a state: leave such states out with FILTER (WHERE day IS NOT NULL)",
                BalanceAlarm::SPEC.name
            );
        }
        self.insert(day, &frozen, state)
    }

    fn insert(&mut self, day: ScalarValue, frozen: &[f64], state: Day) -> Result<()> {
        let name = BalanceAlarm::SPEC.name;
        if let Some((first, known)) = self.days.first() {
            if self.frozen != frozen {
                return exec_err!(
                    "{name}: the states of {first} and {day} have other directions: make all states, those of the reference \
                     period too, with what one call of alarm_directions gave, or take those of one reference alone, e.g. with \
                     GROUP BY"
                );
            }
            if known.squares.is_empty() != state.squares.is_empty() {
                return exec_err!(
                    "{name}: of the states of {first} and {day}, one knows clusters and the other does not: give alarm_state \
                     treatment(treated, cluster) on all days"
                );
            }
            let groups = |day: &Day| day.clusters.as_ref().map(|clusters| clusters.groups);
            if groups(known).zip(groups(&state)).is_some_and(|(known, new)| known != new) {
                return exec_err!(
                    "{name}: the clusters of {first} and {day} are in other numbers of groups: call treatment() with the same \
                     number on all days"
                );
            }
        }
        let order = |known: &(ScalarValue, Day)| known.0.partial_cmp(&day).unwrap_or(Ordering::Less);
        match self.days.binary_search_by(order) {
            Ok(_) => exec_err!(
                "{name}: {day} has two states: give it one, of all of its rows, e.g. by alarm_state(...) GROUP BY day"
            ),
            Err(place) => {
                self.frozen = frozen.to_vec();
                self.days.insert(place, (day, state));
                // Whatever days come, it is not in the reference.
                if let Some((_, beyond)) = self.days.get_mut(self.settings.reference_days) {
                    beyond.clusters = None;
                }
                if place > self.settings.reference_days {
                    self.days[place].1.clusters = None;
                }
                Ok(())
            }
        }
    }

    /// Adds the days of another, of those in row `row` of the arrays that [`arrays`] gave.
    fn merge(&mut self, states: &[ArrayRef], row: usize) -> Result<()> {
        let list = |at: usize| {
            let lists: &ListArray = states[at].as_list();
            lists.value(row)
        };
        let days = list(0);
        let numbers = |at: usize| list(at).as_primitive::<Float64Type>().values().to_vec();
        let [frozen, counts, sums, squares, groups, lengths, keys, clusters] =
            std::array::from_fn(|at| numbers(1 + at));
        let directions = 1 + frozen.len() / 2;
        let (mut sums, mut squares) =
            (sums.chunks_exact(directions * DAY_SUMS), squares.chunks_exact(directions * SQUARES));
        let (mut keys, mut clusters) = (&keys[..], &clusters[..]);
        for day in 0..days.len() {
            let length = lengths[day] as usize;
            let (own_keys, other_keys) = keys.split_at(length);
            let (own_clusters, other_clusters) = clusters.split_at(length * (1 + 2 * directions));
            (keys, clusters) = (other_keys, other_clusters);
            let state = Day {
                count: counts[day],
                sums: sums.next().unwrap_or_default().to_vec(),
                squares: squares.next().unwrap_or_default().to_vec(),
                clusters: (length > 0).then(|| Clusters {
                    groups: groups[day] as u16,
                    keys: own_keys.iter().map(|key| *key as u16).collect(),
                    sums: own_clusters.to_vec(),
                }),
            };
            self.insert(ScalarValue::try_from_array(&days, day)?, &frozen, state)?;
        }
        Ok(())
    }

    /// The numbers of [`LISTS`].
    fn lists(&self) -> [Vec<f64>; LISTS.len()] {
        let days = || self.days.iter().map(|(_, day)| day);
        let clusters = || days().filter_map(|day| day.clusters.as_ref());
        let of_clusters = |f: fn(&Clusters) -> usize| days().map(move |day| day.clusters.as_ref().map_or(0, f) as f64);
        [
            self.frozen.clone(),
            days().map(|day| day.count).collect(),
            days().flat_map(|day| day.sums.iter().copied()).collect(),
            days().flat_map(|day| day.squares.iter().copied()).collect(),
            of_clusters(|clusters| usize::from(clusters.groups)).collect(),
            of_clusters(|clusters| clusters.keys.len()).collect(),
            clusters().flat_map(|clusters| clusters.keys.iter().map(|key| f64::from(*key))).collect(),
            clusters().flat_map(|clusters| clusters.sums.iter().copied()).collect(),
        ]
    }

    fn size(&self) -> usize {
        let days = self.days.iter().map(|(day, state)| day.size() - size_of_val(day) + state.size());
        self.frozen.capacity() * size_of::<f64>()
            + self.days.capacity() * size_of::<(ScalarValue, Day)>()
            + days.sum::<usize>()
    }
}

/// The states of groups, to be merged.
fn arrays(watches: &[Watch], day_type: &DataType) -> Result<Vec<ArrayRef>> {
    let days = watches.iter().map(|watch| {
        let days: Vec<ScalarValue> = watch.days.iter().map(|(day, _)| day.clone()).collect();
        ScalarValue::List(ScalarValue::new_list_nullable(&days, day_type))
    });
    let days: Vec<ScalarValue> = days.collect();
    let mut arrays = vec![match days.is_empty() {
        true => new_null_array(&DataType::new_list(day_type.clone(), true), 0),
        false => ScalarValue::iter_to_array(days)?,
    }];
    let mut columns: [Vec<Option<Vec<f64>>>; LISTS.len()] = Default::default();
    for watch in watches {
        columns.iter_mut().zip(watch.lists()).for_each(|(column, list)| column.push(Some(list)));
    }
    arrays.extend(columns.into_iter().map(lists));
    Ok(arrays)
}

/// The results of groups.
fn results(watches: &[Watch], day_type: &DataType) -> Result<ArrayRef> {
    let alarms: Vec<Option<Watched>> = watches
        .iter()
        .map(|watch| {
            let days: Vec<Day> = watch.days.iter().map(|(_, day)| day.clone()).collect();
            (!days.is_empty()).then(|| Watched::new(&days, &watch.settings))
        })
        .collect();
    let alarms = || watches.iter().zip(&alarms).map(|(watch, alarm)| Some((watch, alarm.as_ref()?)));
    let day = |f: fn(&Watched) -> Option<usize>| -> Result<ArrayRef> {
        let day = |(watch, alarm): (&Watch, &Watched)| Some(watch.days[f(alarm)?].0.clone());
        let null = ScalarValue::try_from(day_type)?;
        let days: Vec<ScalarValue> =
            alarms().map(|alarm| alarm.and_then(day).unwrap_or_else(|| null.clone())).collect();
        match days.is_empty() {
            true => Ok(new_null_array(day_type, 0)),
            false => ScalarValue::iter_to_array(days),
        }
    };
    let number = |f: fn(&Watched) -> Option<f64>| numbers(alarms().map(|alarm| f(alarm?.1)));
    let count = |f: fn(&Watched) -> Option<usize>| counts(alarms().map(|alarm| f(alarm?.1).map(|count| count as u64)));
    let list = |f: fn(&Direction) -> Option<f64>, is_scaled: bool| {
        lists(alarms().map(|alarm| {
            let (watch, alarm) = alarm?;
            let scale = |direction: &Direction| match is_scaled {
                true => watch.settings.tolerance / direction.unit,
                false => 1.0,
            };
            let entry = |direction: &Option<Direction>| {
                let direction = direction.as_ref()?;
                Some(f(direction)? * scale(direction)).filter(|figure| figure.is_finite())
            };
            Some(alarm.directions.iter().map(entry).collect::<Vec<_>>())
        }))
    };
    let verdicts: ArrayRef = Arc::new(alarms().map(|alarm| Some(verdict(alarm?.1))).collect::<StringArray>());
    let columns = vec![
        verdicts,
        number(|alarm| alarm.reference.level),
        number(|alarm| Some(alarm.threshold)),
        day(|alarm| alarm.reference.since)?,
        count(|alarm| Some(alarm.reference.direction? + 1)),
        count(|alarm| Some(alarm.days)),
        count(|alarm| Some(alarm.reference_days)),
        list(|direction| Some(direction.shift), true),
        list(|direction| Some(direction.error), true),
        list(|direction| direction.recent, true),
        list(|direction| Some(direction.design), false),
        number(|alarm| alarm.truth.level),
        day(|alarm| alarm.truth.since)?,
    ];
    Ok(structs(alarm_fields(day_type), columns, alarms().map(|alarm| alarm.is_some()).collect()))
}

fn verdict(alarm: &Watched) -> &'static str {
    match alarm {
        Watched { reference, .. } if reference.since.is_some() => "alarm",
        Watched { is_undecided: true, .. } | Watched { days: 0, .. } => "undecided",
        Watched { reference, .. } if reference.level.is_none() => "undecided",
        _ => "steady",
    }
}

impl Accumulator for Watch {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        (0..values[0].len()).try_for_each(|row| self.add(values, row))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        (0..states[0].len()).try_for_each(|row| self.merge(states, row))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&results(std::slice::from_ref(self), &self.day_type)?, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let arrays = arrays(std::slice::from_ref(self), &self.day_type)?;
        arrays.iter().map(|array| ScalarValue::try_from_array(array, 0)).collect()
    }

    fn size(&self) -> usize {
        size_of_val(self) + Watch::size(self)
    }
}

/// The days of every group.
#[derive(Debug)]
struct Watches {
    empty: Watch,
    groups: Vec<Watch>,
}

impl Watches {
    fn resize(&mut self, groups: usize) {
        self.groups.resize(groups, self.empty.clone());
    }
}

impl GroupsAccumulator for Watches {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.resize(total_num_groups);
        let passes = |row: usize| opt_filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        let mut rows = group_indices.iter().enumerate().filter(|(row, _)| passes(*row));
        rows.try_for_each(|(row, group)| self.groups[*group].add(values, row))
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.resize(total_num_groups);
        let mut rows = group_indices.iter().enumerate();
        rows.try_for_each(|(row, group)| self.groups[*group].merge(values, row))
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values[0].len();
        let mut each = Self { empty: self.empty.clone(), groups: Vec::new() };
        each.update_batch(values, &(0..rows).collect::<Vec<_>>(), opt_filter, rows)?;
        arrays(&each.groups, &self.empty.day_type)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        results(&emit_to.take_needed(&mut self.groups), &self.empty.day_type)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        arrays(&emit_to.take_needed(&mut self.groups), &self.empty.day_type)
    }

    fn size(&self) -> usize {
        let groups: usize = self.groups.iter().map(Watch::size).sum();
        self.groups.capacity() * size_of::<Watch>() + groups
    }
}
