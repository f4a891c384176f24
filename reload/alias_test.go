package reload

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/hotsvc/svc/configsrc"
)

func TestAliasOfALongList(t *testing.T) {
	type conf struct {
		List []string `config:"list" alias:"old"`
	}
	s, err := newSchema(reflect.TypeFor[conf]())
	if err != nil {
		t.Fatal(err)
	}
	const n = 10_000
	values := configsrc.Values{}
	for i := range n {
		values[fmt.Sprintf("old[%d]", i)] = configsrc.Value{Raw: int64(i)}
	}
	got := s.resolveAliases(values)
	if len(got) != n || len(values) != n {
		t.Fatalf("%d keys of %d", len(got), n)
	}
	for i := range n {
		if got[fmt.Sprintf("list[%d]", i)].Raw != int64(i) {
			t.Fatalf("element %d is %v", i, got[fmt.Sprintf("list[%d]", i)])
		}
	}
	if values["old[0]"].Raw != int64(0) {
		t.Error("the source's own values were changed")
	}
}
