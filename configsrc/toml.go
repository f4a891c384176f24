package configsrc

import (
	"bytes"
	"errors"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// toml reads a TOML document. It walks the parser's expressions, which have
// lines and the text as written, and lets the library check the rules of
// tables afterwards.
func (w *walker) toml(data []byte) {
	t := &tomlText{walker: w, data: data, line: 1, elements: make(map[string]int)}
	t.parser.Reset(data)
	t.table = true // the root
	for !t.full && t.parser.NextExpression() {
		t.expression(t.parser.Expression())
	}
	w.path, w.depth = w.path[:0], 0
	if t.full || t.parser.Error() == nil && w.problems.total > 0 {
		return
	}
	var discarded map[string]any
	if err := toml.Unmarshal(data, &discarded); err != nil {
		w.tomlInvalid(err)
		return
	}
	if t.parser.Error() != nil {
		w.fail(0, "not TOML: syntax error")
		return
	}
	t.emptyTables()
}

// tomlInvalid says what the library found. Messages that may quote the
// document are left out.
func (w *walker) tomlInvalid(err error) {
	line, column := 0, 0
	if decode, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column = decode.Position()
	}
	text := strings.TrimPrefix(err.Error(), "toml: ")
	switch {
	case strings.Contains(text, " already "), strings.Contains(text, "should be a table"):
		w.fail(line, "a key or table is defined twice, or in two ways (value, table, list of tables)")
		return
	case strings.Contains(text, "nested more than"):
		w.fail(line, depthReason, w.limits.Depth)
		return
	}
	for _, fixed := range []string{
		"strings must be quoted", "impossible date", "integers cannot have leading zeroes",
		"expected '=' after key", "strings cannot have new lines", "array is incomplete", "inline table is incomplete",
		"expected ',' or ']' after array value", "expected ',' or '}' after inline table key-value",
	} {
		if strings.HasSuffix(text, fixed) {
			w.fail(line, "not TOML: %s, at column %d", fixed, column)
			return
		}
	}
	w.fail(line, "not TOML: syntax error at column %d", column)
}

type tomlText struct {
	*walker
	parser unstable.Parser
	data   []byte

	// offset and line are where the last node began; nodes come in order.
	offset, line int
	// elements is how many elements each list of tables has so far.
	elements map[string]int
	// table tells whether the path is the one of the last table's header. It is
	// not when that one was refused.
	table bool
	// declared are the tables that have a header or braces: one with nothing in
	// it is an empty section.
	declared []declaredTable
}

type declaredTable struct {
	key  string
	line int
}

// lineOf counts on from the last node, so that all lines cost one pass.
func (t *tomlText) lineOf(node *unstable.Node) int {
	if at := int(node.Raw.Offset); at > t.offset {
		t.line += bytes.Count(t.data[t.offset:at], []byte{'\n'})
		t.offset = at
	}
	return t.line
}

func (t *tomlText) expression(node *unstable.Node) {
	switch node.Kind {
	case unstable.KeyValue:
		if t.table {
			t.pair(node)
		}
	case unstable.Table, unstable.ArrayTable:
		t.header(node)
	}
}

func (t *tomlText) header(node *unstable.Node) {
	t.path, t.depth, t.table = t.path[:0], 0, false
	line := t.line
	for parts := node.Key(); parts.Next(); {
		line = t.lineOf(parts.Node())
		if _, ok := t.enter(string(parts.Node().Data), line); !ok {
			return
		}
		n, list := t.elements[string(t.path)], false
		if parts.IsLast() && node.Kind == unstable.ArrayTable {
			n++
			t.elements[string(t.path)] = n
			list = true
		}
		if n > 0 && (list || !parts.IsLast()) {
			if _, ok := t.enterIndex(n-1, line); !ok {
				return
			}
		}
	}
	t.table = true
	t.declare(line)
}

// declare notes the table at the path.
func (t *tomlText) declare(line int) {
	switch {
	case t.full:
	case len(t.declared) > 2*t.limits.Keys:
		t.refuse(line, "more tables than twice the limit of %d keys", t.limits.Keys)
	case t.depth > 0:
		t.declared = append(t.declared, declaredTable{key: string(t.path), line: line})
	}
}

func (t *tomlText) pair(node *unstable.Node) {
	mark, depth := len(t.path), t.depth
	line, ok := t.line, true
	for parts := node.Key(); ok && parts.Next(); {
		line = t.lineOf(parts.Node())
		_, ok = t.enter(string(parts.Node().Data), line)
	}
	if ok {
		t.value(node.Value(), line)
	}
	t.path, t.depth = t.path[:mark], depth
}

func (t *tomlText) value(node *unstable.Node, line int) {
	text := string(node.Data)
	switch node.Kind {
	case unstable.InlineTable:
		t.declare(line)
		for pairs := node.Children(); pairs.Next(); {
			t.pair(pairs.Node())
		}
	case unstable.Array:
		t.array(node, line)
	case unstable.Bool:
		t.put(text == "true", line)
	case unstable.Integer:
		n, err := strconv.ParseInt(strings.ReplaceAll(strings.TrimPrefix(text, "+"), "_", ""), 0, 64)
		if err != nil {
			t.invalid(line, outOfRange)
			return
		}
		t.put(n, line)
	case unstable.Float:
		t.float(text, line)
	default: // texts, and the four kinds of date and time as they are written
		t.put(text, line)
	}
}

func (t *tomlText) float(text string, line int) {
	text = strings.ReplaceAll(text, "_", "")
	switch strings.TrimLeft(text, "+-") {
	case "inf", "nan":
		t.invalid(line, notFinite)
		return
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.invalid(line, outOfRange)
		return
	}
	t.put(f, line)
}

func (t *tomlText) array(node *unstable.Node, line int) {
	n := 0
	for elements := node.Children(); elements.Next(); {
		element := elements.Node()
		at := t.line
		if element.Raw.Length > 0 {
			at = t.lineOf(element)
		}
		if mark, ok := t.enterIndex(n, at); ok {
			t.value(element, at)
			t.leave(mark)
		}
		if n++; t.full {
			return
		}
	}
	if n == 0 {
		t.put(EmptyList, line)
	}
}

// emptyTables puts an empty section where a table was declared and nothing
// stands below it.
func (t *tomlText) emptyTables() {
	slices.SortStableFunc(t.declared, func(a, b declaredTable) int { return CompareKeys(a.key, b.key) })
	keys := t.values.Keys()
	for i, table := range t.declared {
		// What lies below a key comes right behind it.
		below := table.key + "."
		next := sort.Search(len(keys), func(i int) bool { return CompareKeys(keys[i], table.key) >= 0 })
		occupied := next < len(keys) && (keys[next] == table.key || strings.HasPrefix(keys[next], below)) ||
			i+1 < len(t.declared) && (t.declared[i+1].key == table.key || strings.HasPrefix(t.declared[i+1].key, below))
		if occupied {
			continue
		}
		t.path = append(t.path[:0], table.key...)
		t.put(EmptySection, table.line)
	}
}
