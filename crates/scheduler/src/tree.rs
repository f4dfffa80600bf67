//! A persistent ordered map: a B+ tree whose nodes are shared until one of the copies changes.
//!
//! As `Map`, with wide nodes: a walk reads entries that lie side by side, and a change copies a few nodes instead of one for
//! each comparison. The fleet's orders are made of it. Nodes are split and merged as in Comer, "The Ubiquitous B-Tree"
//! (ACM Computing Surveys 11(2), 1979); a merge leaves room, so that an entry that comes and goes does not split again.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Entries of a leaf, children of a branch.
const MOST: usize = 16;
/// A node with fewer is merged with its neighbour if both together leave a quarter of a node.
const FEW: usize = MOST / 4;

/// A copy shares all nodes with its original.
#[derive(Clone)]
pub(crate) struct Tree<K, V> {
    root: Option<Arc<Node<K, V>>>,
    size: usize,
}

enum Node<K, V> {
    Leaf(Vec<(K, V)>),
    /// Each child with a key that none of its own are below. That of the first says nothing.
    Branch(Vec<Child<K, V>>),
}

type Child<K, V> = (K, Arc<Node<K, V>>);

impl<K, V> Default for Tree<K, V> {
    fn default() -> Self {
        Self { root: None, size: 0 }
    }
}

impl<K: fmt::Debug + Ord, V: fmt::Debug> fmt::Debug for Tree<K, V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_map().entries(self.iter().map(|(key, value)| (key, value))).finish()
    }
}

impl<K, V> Tree<K, V> {
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.size == 0
    }
}

impl<K: Ord, V> Tree<K, V> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        Upwards::new(self.root.as_deref(), |_| false)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entry(key).map(|(_, value)| value)
    }

    /// The entry of a key, with the key as it is kept.
    pub(crate) fn entry<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&(K, V)>
    where
        K: Borrow<Q>,
    {
        let mut node = self.root.as_deref()?;
        loop {
            match node {
                Node::Leaf(entries) => return place_of(entries, key).ok().and_then(|at| entries.get(at)),
                Node::Branch(children) => node = &children[child_of(children, key)].1,
            }
        }
    }

    pub(crate) fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.entry(key).is_some()
    }

    /// The entry that a draw from all numbers chooses, each as likely as any other; nothing where it fell beside the end of a
    /// node. One draw in a few does, since nodes are half full at least as a rule.
    pub(crate) fn drawn(&self, draw: u64) -> Option<&(K, V)> {
        let mut node = self.root.as_deref()?;
        // The root is shared by all: only below it are children unlike.
        let mut at = remainder(draw >> 32, node.len());
        let mut left = draw & u64::from(u32::MAX);
        loop {
            match node {
                Node::Leaf(entries) => return entries.get(at),
                Node::Branch(children) => node = &children.get(at)?.1,
            }
            at = remainder(left, MOST);
            left /= MOST as u64;
        }
    }

    /// Entries from a key upwards.
    pub(crate) fn from<'a>(&'a self, key: &K) -> impl Iterator<Item = &'a (K, V)> + use<'a, K, V> {
        Upwards::new(self.root.as_deref(), |other| other < key)
    }

    /// Entries below a key, upwards.
    pub(crate) fn below(&self, key: K) -> impl Iterator<Item = &(K, V)> {
        self.iter().take_while(move |(other, _)| *other < key)
    }

    /// Entries from the last down to a key.
    pub(crate) fn down_to(&self, key: K) -> impl Iterator<Item = &(K, V)> {
        Downwards::new(self.root.as_deref(), |_| true).take_while(move |(other, _)| *other >= key)
    }
}

impl<K: Ord + Clone, V: Clone> Tree<K, V> {
    pub(crate) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let mut node = Arc::make_mut(self.root.as_mut()?);
        loop {
            match node {
                Node::Leaf(entries) => {
                    let at = place_of(entries, key).ok()?;
                    return Some(&mut entries[at].1);
                }
                Node::Branch(children) => {
                    let at = child_of(children, key);
                    node = Arc::make_mut(&mut children[at].1);
                }
            }
        }
    }

    /// In place of what the key had.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        let Some(root) = &mut self.root else {
            self.root = Some(Arc::new(Node::Leaf(vec![(key, value)])));
            self.size = 1;
            return;
        };
        let (is_new, split) = insert(root, key, value);
        self.size += usize::from(is_new);
        if let Some(right) = split {
            let left = (right.0.clone(), Arc::clone(root));
            *root = Arc::new(Node::Branch(vec![left, right]));
        }
    }

    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        let Some(root) = &mut self.root else { return };
        self.size -= usize::from(remove(root, key));
        while let Node::Branch(children) = &**root
            && let [(_, only)] = children.as_slice()
        {
            *root = Arc::clone(only);
        }
        if root.len() == 0 {
            self.root = None;
        }
    }
}

impl<K, V> Node<K, V> {
    fn len(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Branch(children) => children.len(),
        }
    }
}

impl<K: Clone, V: Clone> Clone for Node<K, V> {
    fn clone(&self) -> Self {
        match self {
            Node::Leaf(entries) => Node::Leaf(with_room(entries)),
            Node::Branch(children) => Node::Branch(with_room(children)),
        }
    }
}

/// A node is copied because it is about to change: without room for one more it would be moved at once.
fn with_room<T: Clone>(from: &[T]) -> Vec<T> {
    let mut copy = Vec::with_capacity(from.len() + 1);
    copy.extend_from_slice(from);
    copy
}

fn remainder(of: u64, by: usize) -> usize {
    usize::try_from(of % by.max(1) as u64).unwrap_or_default()
}

fn place_of<K: Borrow<Q>, V, Q: Ord + ?Sized>(entries: &[(K, V)], key: &Q) -> Result<usize, usize> {
    entries.binary_search_by(|(other, _)| other.borrow().cmp(key))
}

/// A branch has children.
fn child_of<K: Borrow<Q>, V, Q: Ord + ?Sized>(children: &[Child<K, V>], key: &Q) -> usize {
    children[1..].partition_point(|(low, _)| low.borrow() <= key)
}

/// Whether the key is new, and what was split off to the right of the node.
fn insert<K: Ord + Clone, V: Clone>(node: &mut Arc<Node<K, V>>, key: K, value: V) -> (bool, Option<Child<K, V>>) {
    match Arc::make_mut(node) {
        Node::Leaf(entries) => match place_of(entries, &key) {
            Ok(at) => {
                entries[at].1 = value;
                (false, None)
            }
            Err(at) => {
                entries.insert(at, (key, value));
                (true, half(entries).map(|right| (right[0].0.clone(), Arc::new(Node::Leaf(right)))))
            }
        },
        Node::Branch(children) => {
            let at = child_of(children, &key);
            let (is_new, split) = insert(&mut children[at].1, key, value);
            if let Some(right) = split {
                children.insert(at + 1, right);
            }
            (is_new, half(children).map(|right| (right[0].0.clone(), Arc::new(Node::Branch(right)))))
        }
    }
}

/// The upper half of what has grown too long.
fn half<T>(of: &mut Vec<T>) -> Option<Vec<T>> {
    (of.len() > MOST).then(|| of.split_off(of.len() / 2))
}

/// Whether the key was there. The node may be left with few, or with none.
fn remove<K: Ord + Clone + Borrow<Q>, V: Clone, Q: Ord + ?Sized>(node: &mut Arc<Node<K, V>>, key: &Q) -> bool {
    match Arc::make_mut(node) {
        Node::Leaf(entries) => {
            let found = place_of(entries, key);
            found.is_ok_and(|at| {
                entries.remove(at);
                true
            })
        }
        Node::Branch(children) => {
            let at = child_of(children, key);
            let removed = remove(&mut children[at].1, key);
            let left = children[at].1.len();
            if left == 0 {
                children.remove(at);
            } else if left < FEW {
                merge(children, at.saturating_sub(1));
            }
            removed
        }
    }
}

/// A child with the next one, if there is one and they are few enough.
fn merge<K: Clone, V: Clone>(children: &mut Vec<Child<K, V>>, at: usize) {
    let [(_, left), (low, right), ..] = &mut children[at..] else { return };
    if left.len() + right.len() > MOST - FEW {
        return;
    }
    match (Arc::make_mut(left), &**right) {
        (Node::Leaf(left), Node::Leaf(right)) => left.extend_from_slice(right),
        (Node::Branch(left), Node::Branch(right)) => {
            let joint = left.len();
            left.extend_from_slice(right);
            // It was the first of the right ones: only from here on is its key of use.
            left[joint].0 = low.clone();
        }
        // All leaves are equally deep.
        (Node::Leaf(_), Node::Branch(_)) | (Node::Branch(_), Node::Leaf(_)) => return,
    }
    children.remove(at + 1);
}

struct Upwards<'a, K, V> {
    root: Option<&'a Node<K, V>>,
    /// What is left of the leaf that is being walked, and the key that it ends with.
    leaf: &'a [(K, V)],
    last: Option<&'a K>,
}

impl<'a, K, V> Upwards<'a, K, V> {
    fn new(root: Option<&'a Node<K, V>>, is_before: impl Fn(&K) -> bool) -> Self {
        let leaf = root.and_then(|root| leaf_after(root, &is_before)).unwrap_or_default();
        Self { root, leaf, last: leaf.last().map(|(key, _)| key) }
    }
}

impl<'a, K: Ord, V> Iterator for Upwards<'a, K, V> {
    type Item = &'a (K, V);

    fn next(&mut self) -> Option<Self::Item> {
        if self.leaf.is_empty() {
            let last = self.last?;
            *self = Self::new(self.root, |key| key <= last);
        }
        let (first, rest) = self.leaf.split_first()?;
        self.leaf = rest;
        Some(first)
    }
}

/// The rest of the first leaf that has keys which are not before those wanted.
fn leaf_after<'a, K, V>(node: &'a Node<K, V>, is_before: &impl Fn(&K) -> bool) -> Option<&'a [(K, V)]> {
    match node {
        Node::Leaf(entries) => {
            let rest = &entries[entries.partition_point(|(key, _)| is_before(key))..];
            (!rest.is_empty()).then_some(rest)
        }
        Node::Branch(children) => {
            let at = children[1..].partition_point(|(low, _)| is_before(low));
            children[at..].iter().find_map(|(_, child)| leaf_after(child, is_before))
        }
    }
}

struct Downwards<'a, K, V> {
    root: Option<&'a Node<K, V>>,
    /// What is left of the leaf that is being walked, and the key that it begins with.
    leaf: &'a [(K, V)],
    first: Option<&'a K>,
}

impl<'a, K, V> Downwards<'a, K, V> {
    fn new(root: Option<&'a Node<K, V>>, is_wanted: impl Fn(&K) -> bool) -> Self {
        let leaf = root.and_then(|root| leaf_before(root, &is_wanted)).unwrap_or_default();
        Self { root, leaf, first: leaf.first().map(|(key, _)| key) }
    }
}

impl<'a, K: Ord, V> Iterator for Downwards<'a, K, V> {
    type Item = &'a (K, V);

    fn next(&mut self) -> Option<Self::Item> {
        if self.leaf.is_empty() {
            let first = self.first?;
            *self = Self::new(self.root, |key| key < first);
        }
        let (last, rest) = self.leaf.split_last()?;
        self.leaf = rest;
        Some(last)
    }
}

/// The beginning of the last leaf that has keys which are wanted: all below some key.
fn leaf_before<'a, K, V>(node: &'a Node<K, V>, is_wanted: &impl Fn(&K) -> bool) -> Option<&'a [(K, V)]> {
    match node {
        Node::Leaf(entries) => {
            let start = &entries[..entries.partition_point(|(key, _)| is_wanted(key))];
            (!start.is_empty()).then_some(start)
        }
        Node::Branch(children) => {
            let to = 1 + children[1..].partition_point(|(low, _)| is_wanted(low));
            children[..to].iter().rev().find_map(|(_, child)| leaf_before(child, is_wanted))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::iter::once;
    use std::ops::Range;

    use proptest::prelude::*;

    use super::{MOST, Node, Tree};

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16),
        Remove(u16),
        Change(u16),
        /// All keys of a stretch: nodes run empty and are merged.
        Clear(u16),
        /// What was copied last must not have changed since.
        Copy,
    }

    fn step() -> impl Strategy<Value = Step> {
        // Narrow enough that removals meet what is there, wide enough for three levels.
        let key = || 0..3000_u16;
        prop_oneof![
            8 => key().prop_map(Step::Insert),
            6 => key().prop_map(Step::Remove),
            2 => key().prop_map(Step::Change),
            1 => key().prop_map(Step::Clear),
            1 => Just(Step::Copy),
        ]
    }

    /// Of a node whose keys are all in `keys`.
    fn depth(node: &Node<u16, u32>, keys: Range<u16>) -> usize {
        match node {
            Node::Leaf(entries) => {
                assert!(!entries.is_empty() && entries.len() <= MOST);
                assert!(entries.iter().all(|(key, _)| keys.contains(key)), "{entries:?} in {keys:?}");
                1
            }
            Node::Branch(children) => {
                assert!(!children.is_empty() && children.len() <= MOST);
                let lows = children[1..].iter().map(|(low, _)| *low);
                let bounds: Vec<u16> = once(keys.start).chain(lows).chain(once(keys.end)).collect();
                assert!(bounds.is_sorted_by(|one, next| one < next), "{bounds:?}");
                let below = children.iter().zip(bounds.windows(2));
                let below: Vec<usize> = below.map(|((_, child), ends)| depth(child, ends[0]..ends[1])).collect();
                assert!(below.iter().all(|one| *one == below[0]), "all leaves are equally deep");
                below[0] + 1
            }
        }
    }

    fn is_same(tree: &Tree<u16, u32>, plain: &BTreeMap<u16, u32>, probe: u16) {
        tree.root.as_deref().map(|root| depth(root, 0..u16::MAX));
        assert_eq!((tree.size(), tree.is_empty()), (plain.len(), plain.is_empty()));
        let all = |entries: &mut dyn Iterator<Item = &(u16, u32)>| entries.copied().collect::<Vec<_>>();
        let same = |entries: &mut dyn Iterator<Item = (&u16, &u32)>| {
            entries.map(|(key, value)| (*key, *value)).collect::<Vec<_>>()
        };
        assert_eq!(all(&mut tree.iter()), same(&mut plain.iter()));
        assert_eq!(all(&mut tree.from(&probe)), same(&mut plain.range(probe..)));
        assert_eq!(all(&mut tree.below(probe)), same(&mut plain.range(..probe)));
        assert_eq!(all(&mut tree.down_to(probe)), same(&mut plain.range(probe..).rev()));
        assert_eq!(tree.get(&probe), plain.get(&probe));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_an_ordered_map_and_copies_stay_as_they_were(
            start in 0..3000_u16,
            steps in proptest::collection::vec(step(), 0..300),
            probes in proptest::collection::vec(0..3001_u16, 8),
        ) {
            let (mut tree, mut plain) = (Tree::default(), BTreeMap::new());
            for key in 0..start {
                tree.insert(key, 0);
                plain.insert(key, 0);
            }
            let mut copy = (tree.clone(), plain.clone());
            for (number, step) in steps.into_iter().enumerate() {
                let number = u32::try_from(number).expect("few");
                match step {
                    Step::Insert(key) => {
                        tree.insert(key, number);
                        plain.insert(key, number);
                    }
                    Step::Remove(key) => {
                        tree.remove(&key);
                        plain.remove(&key);
                    }
                    Step::Change(key) => {
                        let (one, other) = (tree.get_mut(&key), plain.get_mut(&key));
                        prop_assert_eq!(one.is_some(), other.is_some());
                        one.into_iter().chain(other).for_each(|value| *value += 1);
                    }
                    Step::Clear(from) => {
                        for key in from..from + 400 {
                            tree.remove(&key);
                            plain.remove(&key);
                        }
                    }
                    Step::Copy => {
                        is_same(&copy.0, &copy.1, probes[0]);
                        copy = (tree.clone(), plain.clone());
                    }
                }
            }
            probes.iter().for_each(|probe| is_same(&tree, &plain, *probe));
            is_same(&copy.0, &copy.1, probes[0]);
            for key in plain.keys().copied().collect::<Vec<_>>() {
                prop_assert_eq!(tree.get(&key), plain.get(&key));
                tree.remove(&key);
            }
            prop_assert!(tree.is_empty() && tree.root.is_none());
        }
    }

    #[test]
    fn a_tree_that_shrinks_is_shallow_again() {
        let mut tree = Tree::default();
        (0..3000_u16).for_each(|key| tree.insert(key, 0));
        let high = tree.root.as_deref().map(|root| depth(root, 0..u16::MAX));
        assert!(high >= Some(3), "{high:?}");
        (0..3000_u16).filter(|key| key % 600 != 0).for_each(|key| tree.remove(&key));
        let low = tree.root.as_deref().map(|root| depth(root, 0..u16::MAX));
        assert!(tree.size() == 5 && low <= Some(2), "{low:?}");
    }

    /// 300 entries in two levels or three, some nodes full and some nearly empty; numbers from a sequence that never changes.
    #[test]
    fn each_entry_is_drawn_as_often_as_any_other() {
        let mut tree = Tree::default();
        (0..600_u16).for_each(|key| tree.insert(key, 0));
        (0..600_u16).filter(|key| key % 2 == 0 || (200..300).contains(key)).for_each(|key| tree.remove(&key));
        let mut times: BTreeMap<u16, u32> = BTreeMap::new();
        let draws = (0..400_000_u64).map(|number| crate::place::shuffled(number, 7));
        draws.filter_map(|draw| tree.drawn(draw)).for_each(|(key, _)| *times.entry(*key).or_default() += 1);
        let all: BTreeSet<u16> = tree.iter().map(|(key, _)| *key).collect();
        assert_eq!(times.keys().copied().collect::<BTreeSet<_>>(), all);
        let mean = times.values().sum::<u32>() / u32::try_from(all.len()).expect("few");
        assert!(mean > 200, "few draws meet an entry: {mean}");
        // Five times the spread of so many throws, to both sides.
        assert!(times.values().all(|times| times.abs_diff(mean) < 5 * mean.isqrt()), "{mean}: {times:?}");
    }

    /// A key that comes where the first keys of a branch were, before the branch is merged with the one on its left.
    #[test]
    fn a_first_child_may_have_keys_below_its_own_after_a_merge() {
        const KEYS: u16 = 1200;
        for cut in (0..KEYS).step_by(8) {
            let (mut tree, mut plain) = (Tree::default(), BTreeMap::new());
            // The second half fills the leaves that the first has left half full: an empty one finds none to merge with.
            for key in (0..KEYS).map(|number| number * 2).chain((0..KEYS).map(|number| number * 2 + 1)) {
                tree.insert(key, 0);
                plain.insert(key, 0);
            }
            let stretch = cut * 2..cut * 2 + 40;
            stretch.clone().for_each(|key| tree.remove(&key));
            tree.insert(stretch.start + 1, 1);
            plain.retain(|key, _| !stretch.contains(key));
            plain.insert(stretch.start + 1, 1);
            // From both ends towards the stretch, as near as branches are merged.
            let mut outside: Vec<u16> = plain.keys().copied().filter(|key| *key != stretch.start + 1).collect();
            outside.sort_by_key(|key| std::cmp::Reverse(key.abs_diff(stretch.start)));
            for key in outside {
                tree.remove(&key);
                assert_eq!(tree.get(&(stretch.start + 1)), Some(&1), "{cut} {key}");
            }
            assert_eq!(tree.size(), 1);
        }
    }
}
