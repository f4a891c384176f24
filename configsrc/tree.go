package configsrc

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Tree returns v nested: sections are map[string]any, lists []any, and what is
// in them the Raw values, with [EmptyList] and [EmptySection] as an empty list
// and map. It shares nothing with v.
//
// v has passed [Values.Check]. Of values that have not, it makes what it can:
// where keys exclude each other, the one that sorts first stays and the others
// are left out, and a list with holes moves up.
func (v Values) Tree() map[string]any {
	leaves := make([]leaf, 0, len(v))
	for _, key := range v.Keys() {
		leaves = append(leaves, leaf{path: appendSteps(nil, key), raw: v[key].Raw})
	}
	return sectionOf(leaves, 0)
}

// leaf is a value and the steps to it.
type leaf struct {
	path []step
	raw  any
}

// nodeOf builds what lies at depth on the common path of leaves, which are
// sorted and not empty.
func nodeOf(leaves []leaf, depth int) any {
	first := leaves[0]
	switch {
	case depth == len(first.path) && first.raw == EmptyList:
		return []any{}
	case depth == len(first.path) && first.raw == EmptySection:
		return map[string]any{}
	case depth == len(first.path):
		return first.raw
	case first.path[depth].index:
		return listOf(leaves, depth)
	default:
		return sectionOf(leaves, depth)
	}
}

func sectionOf(leaves []leaf, depth int) map[string]any {
	section := make(map[string]any)
	for len(leaves) > 0 && !leaves[0].path[depth].index {
		n := sameStep(leaves, depth)
		section[leaves[0].path[depth].text] = nodeOf(leaves[:n], depth+1)
		leaves = leaves[n:]
	}
	return section
}

func listOf(leaves []leaf, depth int) []any {
	var list []any
	for len(leaves) > 0 {
		n := sameStep(leaves, depth)
		list = append(list, nodeOf(leaves[:n], depth+1))
		leaves = leaves[n:]
	}
	return list
}

// sameStep is how many of leaves take the first one's step at depth.
func sameStep(leaves []leaf, depth int) int {
	n := 1
	for n < len(leaves) && leaves[n].path[depth] == leaves[0].path[depth] {
		n++
	}
	return n
}

// Under returns the section prefix of v, as a configuration of its own: the
// keys below "prefix." without that prefix. Elements of a list prefix are not
// below it. The empty prefix stands for the root, and for all keys. Origins and
// shadows stay as they are.
func (v Values) Under(prefix string) Values {
	if prefix == "" {
		return maps.Clone(v)
	}
	section := Values{}
	prefix += "."
	for key, value := range v {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			section[rest] = value
		}
	}
	return section
}

// FromTree flattens nested maps by the rules of [Flatten], every value with
// this origin, within the default [Limits]. It takes nil, bool, the integer and
// float types, string, []any and map[string]any; another type is refused, and
// so is a tree that contains itself, or that has more than 200,000 values, nulls
// and what is repeated included. The error is an [*InvalidError].
func FromTree(tree map[string]any, origin Origin) (Values, error) {
	w := &treeWalker{
		walker: newWalker(Limits{}.orDefault(), origin, len(tree)),
		open:   make(map[container]bool),
	}
	w.inside(container{at: reflect.ValueOf(tree).Pointer()}, func() { w.treeSection(tree) })
	return w.done(byKey)
}

// treeWalker walks a tree of Go values.
type treeWalker struct {
	*walker
	// open are the maps and lists that the path leads through.
	open map[container]bool
	// visits counts the values. Maps that hold one another, each twice, are
	// few and stand for more values than anyone can wait for.
	visits int
}

// treeVisitsPerKey allows for nulls.
const treeVisitsPerKey = 20

// container is the identity of a map, or of a list that is not empty.
type container struct {
	at     uintptr
	length int // of a list: its first element may be a list that starts there too
}

// inside walks a container, unless the path leads through it already.
func (w *treeWalker) inside(c container, walk func()) {
	if w.open[c] {
		w.invalid(w.origin.Line, "the tree contains itself here")
		return
	}
	w.open[c] = true
	walk()
	delete(w.open, c)
}

// visit counts a value. It reports false when there are too many.
func (w *treeWalker) visit() bool {
	w.visits++
	if most := treeVisitsPerKey * w.limits.Keys; w.visits > most && !w.full {
		w.refuse(w.origin.Line, "the tree has more values than the limit of %d, nulls and what is repeated included", most)
	}
	return !w.full
}

func (w *treeWalker) treeSection(tree map[string]any) {
	line := w.origin.Line
	w.section(line, func() {
		for _, name := range slices.Sorted(maps.Keys(tree)) {
			if !w.visit() {
				return
			}
			if mark, ok := w.enter(name, line); ok {
				w.treeValue(tree[name], false)
				w.leave(mark)
			}
		}
	})
}

func (w *treeWalker) treeList(list []any) {
	line := w.origin.Line
	for i, element := range list {
		if !w.visit() {
			return
		}
		if mark, ok := w.enterIndex(i, line); ok {
			w.treeValue(element, true)
			w.leave(mark)
		}
	}
}

func (w *treeWalker) treeValue(value any, inList bool) {
	line := w.origin.Line
	switch x := value.(type) {
	case nil:
		if inList {
			w.put(nil, line)
		}
	case map[string]any:
		w.inside(container{at: reflect.ValueOf(x).Pointer()}, func() { w.treeSection(x) })
	case []any:
		if len(x) == 0 {
			w.put(EmptyList, line)
			return
		}
		w.inside(container{at: reflect.ValueOf(x).Pointer(), length: len(x)}, func() { w.treeList(x) })
	case bool, string, int64, float64:
		w.put(x, line)
	case float32:
		w.put(float64(x), line)
	case int:
		w.put(int64(x), line)
	case int8:
		w.put(int64(x), line)
	case int16:
		w.put(int64(x), line)
	case int32:
		w.put(int64(x), line)
	case uint:
		w.put(unsigned(uint64(x)), line)
	case uint8:
		w.put(int64(x), line)
	case uint16:
		w.put(int64(x), line)
	case uint32:
		w.put(int64(x), line)
	case uint64:
		w.put(unsigned(x), line)
	default:
		w.invalid(line, "%s", wrongType(value))
	}
}

// unsigned is the one form of a number that int64 may hold or not.
func unsigned(n uint64) any {
	if i := int64(n); i >= 0 { //nolint:gosec // a negative one is what is looked for
		return i
	}
	return n
}

func wrongType(value any) string { return fmt.Sprintf("a %T is no configuration value", value) }
