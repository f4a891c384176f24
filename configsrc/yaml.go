package configsrc

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// yaml reads a YAML document. The library parses; walking its nodes is done
// here, for the lines, the duplicates and the bound on aliases.
func (w *walker) yaml(data []byte) {
	if w.yamlTooLarge(data) {
		return
	}
	data, ok := w.yamlDirectives(data)
	if !ok {
		return
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if !errors.Is(err, io.EOF) {
			w.yamlSyntax(err, data)
		}
		return
	}
	var second yaml.Node
	switch err := decoder.Decode(&second); {
	case err == nil:
		w.fail(second.Line, "a second YAML document starts here: only one is read")
		return
	case !errors.Is(err, io.EOF):
		w.yamlSyntax(err, data)
		return
	}
	y := &yamlTree{
		walker:   w,
		open:     make(map[*yaml.Node]bool),
		resolved: make(map[*yaml.Node]yamlScalar),
		merged:   make(map[string]int),
		budget:   aliasBudget(w.limits),
		bytes:    aliasBytes(w.limits),
	}
	if len(document.Content) == 0 {
		return
	}
	root := document.Content[0]
	switch {
	case root.Kind == yaml.MappingNode:
		y.mapping(root, root.Line)
	case root.Kind == yaml.ScalarNode && root.Value == "" && root.ShortTag() == "!!null":
	default:
		w.fail(root.Line, rootReason)
	}
}

// yamlSyntax says what the parser found. Its messages are fixed texts but for
// one that quotes the document.
func (w *walker) yamlSyntax(err error, data []byte) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		number, after, _ := strings.Cut(rest, ": ")
		if n, err := strconv.Atoi(number); err == nil {
			line, text = n, after
		}
	}
	if at := tabIndent(data, line); at > 0 {
		w.fail(at, "not YAML: a tab stands in the indentation, and YAML indents by spaces only")
		return
	}
	switch {
	case strings.HasPrefix(text, "unknown anchor"):
		text = "an alias (*name) has no anchor (&name) before it; put text that starts with * into quotes"
	case strings.HasPrefix(text, "exceeded max depth"):
		w.fail(line, depthReason, w.limits.Depth)
		return
	case strings.HasPrefix(text, "did not find "), strings.HasPrefix(text, "found "),
		strings.HasPrefix(text, "could not find "), strings.HasPrefix(text, "mapping values "),
		strings.HasPrefix(text, "block sequence "), strings.HasPrefix(text, "control characters "):
	default:
		text = "syntax error"
	}
	w.fail(line, "not YAML: %s", text)
}

// tabIndent is the number of the line at or next to line that is indented by a
// tab; 0 when there is none. The parser's line is off by one at times.
func tabIndent(data []byte, line int) int {
	n := 0
	for text := range bytes.Lines(data) {
		n++
		indent := text[:len(text)-len(bytes.TrimLeft(text, " \t"))]
		if n >= line-1 && bytes.IndexByte(indent, '\t') >= 0 {
			return n
		}
		if n > line {
			break
		}
	}
	return 0
}

type yamlTree struct {
	*walker
	// open are the anchored nodes that the path leads through.
	open map[*yaml.Node]bool
	// aliases is how many aliases the path leads through.
	aliases int
	// budget is how many more nodes may be visited by way of aliases. Without
	// it nine short lines stand for a billion nodes.
	budget int
	// bytes is how many bytes of scalars may be repeated still.
	bytes int
	// resolved are the scalars that aliases led to.
	resolved map[*yaml.Node]yamlScalar

	// sources is how many mappings were merged so far, source the number of the
	// one that the path leads through last; 0 for none. merged has the number
	// for every key that came by a merge.
	sources, source int
	merged          map[string]int
}

// spent counts a visit of node. It reports false when the aliases repeat too
// much.
func (y *yamlTree) spent(node *yaml.Node, line int) bool {
	if y.aliases > 0 {
		y.repeated(node, line)
	}
	return !y.full
}

// repeated takes node off what aliases may repeat.
func (y *yamlTree) repeated(node *yaml.Node, line int) {
	y.budget--
	y.bytes -= len(node.Value)
	switch {
	case y.full:
	case y.budget < 0:
		y.refuse(line, "the aliases repeat too much: together they stand for more than %d nodes", aliasBudget(y.limits))
	case y.bytes < 0:
		y.refuse(line, "the aliases repeat too much: together they stand for more than %d bytes", aliasBytes(y.limits))
	}
}

// aliasBudget lets every key there may be come from an alias.
func aliasBudget(limits Limits) int { return 100 + 4*limits.Keys }

// aliasBytes leaves it to the limit on texts to refuse what is a little more.
func aliasBytes(limits Limits) int { return 4 * limits.Bytes }

// put sets the value at the path. A dotted key and nested sections may name one
// key in two ways, which the names of one mapping do not tell: what is merged
// yields to what stands in the mapping itself, and to what was merged before.
func (y *yamlTree) put(raw any, line int) {
	if y.sources == 0 {
		y.walker.put(raw, line)
		return
	}
	_, again := y.values[string(y.path)]
	switch before := y.merged[string(y.path)]; {
	case again && before < y.source:
		y.puts++
		return
	case again && before > y.source:
		y.puts++
		y.values[string(y.path)] = Value{Raw: raw, Origin: y.at(line)}
	default:
		y.walker.put(raw, line)
	}
	y.merged[string(y.path)] = y.source
}

// invalid notes a problem of the value at the path, like the walker's.
func (y *yamlTree) invalid(line int, format string, args ...any) {
	y.fail(line, format, args...)
	y.put("", line)
}

// inside walks an anchored node. It reports false for one that contains itself.
func (y *yamlTree) inside(node *yaml.Node, walk func()) bool {
	if node.Anchor == "" {
		walk()
		return true
	}
	if y.open[node] {
		return false
	}
	y.open[node] = true
	walk()
	delete(y.open, node)
	return true
}

const insideItself = "the alias stands inside its own anchor"

func (y *yamlTree) value(node *yaml.Node, line int, inList bool) {
	if !y.spent(node, line) {
		return
	}
	finite := true
	switch node.Kind {
	case yaml.AliasNode:
		y.aliases++
		y.value(node.Alias, line, inList)
		y.aliases--
	case yaml.MappingNode:
		finite = y.inside(node, func() { y.mapping(node, line) })
	case yaml.SequenceNode:
		finite = y.inside(node, func() { y.sequence(node, line) })
	case yaml.ScalarNode:
		y.scalar(node, line, inList)
	}
	if !finite {
		y.invalid(line, insideItself)
	}
}

func (y *yamlTree) sequence(node *yaml.Node, line int) {
	if len(node.Content) == 0 {
		y.put(EmptyList, line)
	}
	for i, element := range node.Content {
		if y.full {
			return
		}
		if mark, ok := y.enterIndex(i, element.Line); ok {
			y.value(element, element.Line, true)
			y.leave(mark)
		} else {
			y.spent(element, element.Line) // one that is refused is a visit too
		}
	}
}

func (y *yamlTree) mapping(node *yaml.Node, line int) {
	y.section(line, func() {
		taken := make(map[string]bool, len(node.Content)/2)
		for _, from := range y.pairs(node, taken) {
			y.merge(from, true, taken)
		}
	})
}

// merge adds the pairs that a merge key (<<) brings: of a mapping, or of a list
// of them. A name that is taken stays as it is.
func (y *yamlTree) merge(from *yaml.Node, list bool, taken map[string]bool) {
	if !y.spent(from, from.Line) {
		return
	}
	finite := true
	switch {
	case from.Kind == yaml.AliasNode:
		y.aliases++
		y.merge(from.Alias, list, taken)
		y.aliases--
	case from.Kind == yaml.MappingNode:
		outer := y.source
		y.sources++
		y.source = y.sources
		finite = y.inside(from, func() {
			for _, inner := range y.pairs(from, taken) {
				y.merge(inner, true, taken)
			}
		})
		y.source = outer
	case from.Kind == yaml.SequenceNode && list:
		finite = y.inside(from, func() {
			for _, element := range from.Content {
				y.merge(element, false, taken)
			}
		})
	default:
		y.fail(from.Line, "a merge key (<<) takes a mapping or a list of mappings")
	}
	if !finite {
		y.fail(from.Line, insideItself)
	}
}

// pairs walks the pairs of one mapping whose names are not taken yet, takes
// them, and returns what merge keys in it lead to.
func (y *yamlTree) pairs(node *yaml.Node, taken map[string]bool) (merges []*yaml.Node) {
	own := make(map[string]int, len(node.Content)/2)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if !y.spent(key, key.Line) {
			return nil
		}
		if key.Kind == yaml.ScalarNode && key.ShortTag() == "!!merge" {
			if len(merges) > 0 {
				y.fail(key.Line, "duplicate merge key (<<): write one with a list")
			}
			merges = append(merges, value)
			continue
		}
		line := key.Line
		if key.Kind == yaml.AliasNode {
			key = key.Alias
			if y.repeated(key, line); y.full {
				return nil
			}
		}
		if key.Kind != yaml.ScalarNode {
			y.fail(line, "a key must be text, not a list or a mapping")
			continue
		}
		name := key.Value
		mark, ok := y.enter(name, line)
		if !ok {
			continue
		}
		switch first, again := own[name]; {
		case again && y.aliases == 0: // else it is told where the anchor stands
			y.duplicate(first, line)
		case !again && !taken[name]:
			taken[name] = true
			y.value(value, line, false)
		}
		if _, again := own[name]; !again {
			own[name] = line
		}
		y.leave(mark)
	}
	return merges
}
