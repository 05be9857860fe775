//! Which column of an audited query plays which role, and what that makes of the view `audited`.

use std::collections::BTreeMap;
use std::fmt;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{Expr, cast, ident, lit, when};

use super::known_outcome::known_outcome;
use crate::error::{Error, Result, nearest};
use crate::job::{AuditSpec, ColumnKind, Columns, Job, PointLoss, Role};
use crate::session::is_vector;

/// Roles without which there is no audit.
const REQUIRED: [Role; 2] = [Role::Treated, Role::Propensity];

/// Whether a column in a role of that kind may hold such values.
fn admits(kind: ColumnKind, data_type: &DataType) -> bool {
    let is_number = data_type.is_numeric() || *data_type == DataType::Null;
    let is_flag = is_number || *data_type == DataType::Boolean;
    match kind {
        ColumnKind::Number => is_number,
        ColumnKind::Flag => is_flag,
        ColumnKind::Representation => is_flag || is_vector(data_type),
        ColumnKind::Identity | ColumnKind::Identities | ColumnKind::Any => !data_type.is_nested(),
    }
}

/// The roles that an audit reads: all but the identities.
fn roles() -> impl Iterator<Item = Role> {
    Role::ALL.iter().copied().filter(|role| role.kind() != ColumnKind::Identity)
}

fn in_words(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Identity => "an integer or text",
        ColumnKind::Identities => "an integer, text, a date or a moment",
        ColumnKind::Number => "a number",
        ColumnKind::Flag => "a number or a boolean",
        ColumnKind::Representation => "a number, or a vector of FLOAT or DOUBLE",
        ColumnKind::Any => "text, a number, a boolean or a date",
    }
}

/// A role's column, found in the audited query.
#[derive(Debug, Clone)]
struct Found {
    name: String,
    expr: Expr,
}

/// The columns that play the roles of an audit.
#[derive(Debug, Clone)]
pub(super) struct Roles {
    /// One, or of φ several, for each role that has any.
    found: BTreeMap<Role, Vec<Found>>,
    segments: Vec<Found>,
    loss: PointLoss,
}

/// What the view calls the columns that tell which rows belong together.
const CLUSTERS: [&str; 2] = ["cluster", "cluster_2"];

impl Roles {
    /// Finds the column of each role in what the audit's query gives.
    ///
    /// # Errors
    /// Every problem found: a role without which there is no audit is not mapped, a column is not there or twice, or it
    /// holds what its role cannot be. Each names the role, the job's key and a cure; for a column of text, that of `texts`.
    pub(super) fn resolve(
        job: &Job,
        audit: &str,
        schema: &DFSchema,
        texts: &BTreeMap<String, String>,
    ) -> Result<Self, Vec<Error>> {
        let spec = &job.audit[audit];
        let columns = job.columns.overridden(&spec.columns);
        let mut finder = Finder { spec, audit, schema, texts, problems: Vec::new() };
        let mut found = BTreeMap::new();
        for role in roles() {
            let names = match role {
                Role::Cluster if !columns.is_given(role) => finder.users(&columns),
                _ => columns.all(role),
            };
            if names.is_empty() {
                if REQUIRED.contains(&role) {
                    finder.miss(role);
                }
                continue;
            }
            found.insert(role, finder.role(role, names));
        }
        let key = format!("audit.{audit}.segments");
        let segments = spec.segments.iter().filter_map(|name| finder.find(&key, name, ColumnKind::Any)).collect();
        match finder.problems.is_empty() {
            true => Ok(Self { found, segments, loss: spec.prediction_loss }),
            false => Err(finder.problems),
        }
    }

    /// The columns in `role`.
    fn all(&self, role: Role) -> &[Found] {
        self.found.get(&role).map_or(&[], Vec::as_slice)
    }

    /// The column in `role`.
    fn get(&self, role: Role) -> Option<&Found> {
        self.all(role).first()
    }

    /// The names of the segment columns.
    pub(super) fn segments(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().map(|found| found.name.as_str())
    }

    /// What the view calls the columns of φ.
    pub(super) fn phi_names(&self) -> Vec<String> {
        match self.all(Role::Phi).len() {
            0 | 1 => vec!["phi".to_owned()],
            count => (1..=count).map(|index| format!("phi_{index}")).collect(),
        }
    }

    /// What the job calls the columns of φ; `1` where there is none.
    pub(super) fn phi_columns(&self) -> Vec<String> {
        match self.all(Role::Phi) {
            [] => vec!["1".to_owned()],
            columns => columns.iter().map(|found| found.name.clone()).collect(),
        }
    }

    /// What the view calls the columns that tell which rows belong together.
    pub(super) fn clusters(&self) -> Vec<&'static str> {
        self.all(Role::Cluster).iter().zip(CLUSTERS).map(|(_, name)| name).collect()
    }

    /// What the job calls these columns.
    pub(super) fn cluster_columns(&self) -> Vec<&str> {
        self.all(Role::Cluster).iter().map(|found| found.name.as_str()).collect()
    }

    /// φ in words: its columns, or `1`.
    pub(super) fn phi_label(&self) -> String {
        self.phi_columns().join(",")
    }

    /// Why a column of the view that a check needs is not there; `None` where it is.
    pub(super) fn lacks(&self, column: &str) -> Option<String> {
        lacks(column, !self.segments.is_empty(), |role| self.get(role).is_some())
    }

    /// The view `audited`: the query's rows under the names of their roles, a column NULL where its role is absent. A `sound`
    /// one leaves out the rows that functions refuse, and those without a cluster.
    pub(super) fn view(
        &self,
        query: DataFrame,
        functions: &dyn FunctionRegistry,
        segment: Option<&str>,
        sound: bool,
    ) -> Result<DataFrame, DataFusionError> {
        let null = || cast(lit(ScalarValue::Null), DataType::Float64);
        let mut columns = vec![self.true_error(functions)?.unwrap_or_else(null).alias("true_error")];
        for role in roles() {
            let expr = match (role, self.get(role)) {
                (Role::Phi | Role::Cluster, _) => continue,
                (Role::Error, None) => self.derived_error(functions)?,
                (_, found) => found.map(|found| found.expr.clone()),
            };
            columns.push(expr.unwrap_or_else(null).alias(role.key()));
        }
        match self.all(Role::Phi) {
            [] => columns.push(lit(1.0).alias("phi")),
            phi => columns.extend(phi.iter().zip(self.phi_names()).map(|(found, name)| found.expr.clone().alias(name))),
        }
        let clusters = self.all(Role::Cluster).iter().zip(CLUSTERS);
        columns.extend(clusters.map(|(found, name)| found.expr.clone().alias(name)));
        let segment = self.segments.iter().find(|found| Some(found.name.as_str()) == segment);
        columns.extend(segment.map(|found| found.expr.clone().alias("segment")));
        let view = query.select(columns)?;
        match sound {
            false => Ok(view),
            true => view.filter(self.is_sound(functions)?),
        }
    }

    /// Whether functions do not refuse a row of the view, and it has its clusters.
    fn is_sound(&self, functions: &dyn FunctionRegistry) -> Result<Expr, DataFusionError> {
        let names = ["treated".to_owned(), "propensity".to_owned()].into_iter().chain(self.phi_names());
        let refused = functions.udf("refused_for")?.call(names.map(ident).collect());
        Ok(self.clusters().into_iter().fold(refused.is_null(), |sound, name| sound.and(ident(name).is_not_null())))
    }

    /// The loss of the prediction in treated rows, which is e where no column holds it. Nothing is read of the outcomes of
    /// untreated rows.
    fn derived_error(&self, functions: &dyn FunctionRegistry) -> Result<Option<Expr>, DataFusionError> {
        let roles = (self.get(Role::Treated), self.get(Role::Prediction), self.get(Role::Outcome));
        let (Some(treated), Some(prediction), Some(outcome)) = roles else {
            return Ok(None);
        };
        let known = known_outcome(outcome.expr.clone(), &outcome.name, &treated.name);
        let loss = functions.udf(function(self.loss))?.call(vec![prediction.expr.clone(), known]);
        let is_treated = cast(treated.expr.clone(), DataType::Float64).not_eq(lit(0.0));
        Ok(Some(when(is_treated, loss).end()?))
    }

    /// The mean of e over the outcomes that the true conversion probability q makes: q·L(r̂, 1) + (1 − q)·L(r̂, 0).
    fn true_error(&self, functions: &dyn FunctionRegistry) -> Result<Option<Expr>, DataFusionError> {
        let (Some(q), Some(prediction)) = (self.get(Role::TrueConversion), self.get(Role::Prediction)) else {
            return Ok(None);
        };
        let loss = functions.udf(function(self.loss))?;
        let error = |outcome: f64| loss.call(vec![prediction.expr.clone(), lit(outcome)]);
        Ok(Some(q.expr.clone() * error(1.0) + (lit(1.0) - q.expr.clone()) * error(0.0)))
    }
}

/// Why a column of the view `audited` that a check needs is not there, by the columns that a job gives an audit; `None`
/// where it is.
pub(super) fn lacks_by_job(job: &Job, audit: &str, column: &str) -> Option<String> {
    let spec = &job.audit[audit];
    let columns = job.columns.overridden(&spec.columns);
    lacks(column, !spec.segments.is_empty(), |role| columns.get(role).is_some())
}

fn lacks(column: &str, has_segments: bool, has: impl Fn(Role) -> bool) -> Option<String> {
    match column {
        "segment" if !has_segments => Some("no segments are listed".to_owned()),
        "segment" => None,
        "error" if has(Role::Error) || (has(Role::Prediction) && has(Role::Outcome)) => None,
        "error" => {
            Some("no column has the role error, nor do prediction and outcome, from which it is derived".to_owned())
        }
        _ if Role::from_key(column).is_some_and(has) => None,
        _ => Some(format!("no column has the role {column}")),
    }
}

/// The columns that play roles of numbers in an audit, by name.
pub(super) fn number_columns(job: &Job, audit: &str) -> Vec<String> {
    let columns = job.columns.overridden(&job.audit[audit].columns);
    let roles = roles().filter(|role| !matches!(role.kind(), ColumnKind::Any | ColumnKind::Identities));
    roles.flat_map(|role| columns.all(role).to_vec()).collect()
}

impl fmt::Display for Roles {
    /// `treated = clicked, propensity = p, phi = a,b`: what a message about a role's values needs to say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (role, found) in self.found.iter().filter(|(role, _)| **role != Role::Phi) {
            for found in found {
                write!(f, "{role} = {}, ", found.name)?;
            }
        }
        write!(f, "phi = {}", self.phi_label())
    }
}

/// The scalar function that computes a loss.
fn function(loss: PointLoss) -> &'static str {
    match loss {
        PointLoss::SquaredError => "squared_error",
        PointLoss::CrossEntropy => "log_loss",
    }
}

struct Finder<'a> {
    spec: &'a AuditSpec,
    audit: &'a str,
    schema: &'a DFSchema,
    texts: &'a BTreeMap<String, String>,
    problems: Vec<Error>,
}

impl Finder<'_> {
    /// Reports that a role without which there is no audit has no column.
    fn miss(&mut self, role: Role) {
        let audit = self.audit;
        let names = self.names();
        let near =
            nearest(role.key(), names.iter().copied()).map_or(String::new(), |near| format!(" (perhaps {near:?})"));
        self.problems.push(Error::Invalid(format!(
            "audit.{audit} needs a column for the role {role} ({}): set columns.{role} or audit.{audit}.columns.{role} \
             to one of the query's columns{near}: {}",
            role.meaning().trim_end_matches('.'),
            names.join(", ")
        )));
    }

    /// The column of the user, where the query gives it and rows can be told apart by it.
    fn users<'c>(&self, columns: &'c Columns) -> &'c [String] {
        let users = columns.all(Role::User);
        let gives = |name: &String| {
            let fields = self.schema.qualified_fields_with_unqualified_name(name);
            matches!(fields.as_slice(), [(_, field)] if admits(ColumnKind::Identities, field.data_type()))
        };
        if users.iter().all(gives) { users } else { &[] }
    }

    /// The columns that have `role` by those names.
    fn role(&mut self, role: Role, names: &[String]) -> Vec<Found> {
        let key = self.key(role);
        let found: Vec<_> = names.iter().filter_map(|name| self.find(&key, name, role.kind())).collect();
        let vector = found.iter().find(|found| self.data_type(found).is_some_and(is_vector));
        if let (Some(vector), true) = (vector, names.len() > 1) {
            self.problems.push(Error::Invalid(format!(
                "{key}: the column {:?} holds vectors and must be the only one; give numeric columns or one of vectors",
                vector.name
            )));
        }
        if role == Role::Cluster && names.len() > CLUSTERS.len() {
            self.problems.push(Error::Invalid(format!(
                "{key} names {} columns: give one, or two of which rows may share either",
                names.len()
            )));
        }
        match role {
            Role::Day => found.into_iter().map(|found| self.by_date(found)).collect(),
            _ => found,
        }
    }

    /// The date of a moment; what is none stays as it is.
    fn by_date(&self, mut found: Found) -> Found {
        if let Some(DataType::Timestamp(..) | DataType::Date64) = self.data_type(&found) {
            found.expr = cast(found.expr, DataType::Date32);
        }
        found
    }

    /// The job's key that names the column of `role`.
    fn key(&self, role: Role) -> String {
        match self.spec.columns.get(role) {
            Some(_) => format!("audit.{}.columns.{role}", self.audit),
            None => format!("columns.{role}"),
        }
    }

    fn find(&mut self, key: &str, name: &str, kind: ColumnKind) -> Option<Found> {
        let audit = self.audit;
        let fields = self.schema.qualified_fields_with_unqualified_name(name);
        let problem = match fields.as_slice() {
            [(qualifier, field)] if admits(kind, field.data_type()) => {
                let column = Expr::Column(Column::new(qualifier.cloned(), name));
                // A column of NULLs alone has no type of its own.
                let needs_type = field.data_type().is_decimal() || *field.data_type() == DataType::Null;
                let is_number = !matches!(kind, ColumnKind::Any | ColumnKind::Identities);
                let expr = if needs_type && is_number { cast(column, DataType::Float64) } else { column };
                return Some(Found { name: name.to_owned(), expr });
            }
            [(_, field)] => {
                let (holds, takes) = (field.data_type(), in_words(kind));
                let cure = match self.texts.get(name) {
                    Some(cure) => cure.clone(),
                    None => format!("give another column in its place in audit.{audit}.query"),
                };
                format!("the column holds {holds}, and it takes {takes}; {cure}")
            }
            [] => {
                let names = self.names();
                let near = nearest(name, names.iter().copied())
                    .map_or(String::new(), |near| format!("; did you mean {near:?}?"));
                format!("audit.{audit}.query gives no such column{near} (it gives {})", names.join(", "))
            }
            _ => format!("audit.{audit}.query gives {} columns of that name; tell them apart with AS", fields.len()),
        };
        self.problems.push(Error::Invalid(format!("{key} = {name:?}: {problem}")));
        None
    }

    fn names(&self) -> Vec<&str> {
        self.schema.fields().iter().map(|field| field.name().as_str()).collect()
    }

    fn data_type(&self, found: &Found) -> Option<&DataType> {
        let fields = self.schema.qualified_fields_with_unqualified_name(&found.name);
        fields.first().map(|(_, field)| field.data_type())
    }
}
