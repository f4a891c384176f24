package configsrc_test

import (
	"fmt"

	"github.com/hotsvc/svc/configsrc"
)

func Example() {
	base, err := configsrc.Flatten(configsrc.YAML, []byte("server:\n  listen: [a:1, b:2]\n  timeout: 5s\n"), configsrc.Origin{Source: "file", Name: "base.yaml"}, configsrc.Limits{})
	if err != nil {
		fmt.Println(err)
		return
	}
	center, err := configsrc.Flatten(configsrc.Properties, []byte("server.listen[0]=c:3\n"), configsrc.Origin{Source: "center", Name: "app"}, configsrc.Limits{})
	if err != nil {
		fmt.Println(err)
		return
	}
	merged, err := configsrc.Merge(base, center)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, key := range merged.Keys() {
		fmt.Println(key, "=", merged[key].Raw, "from", merged[key].Origin)
	}
	// Output:
	// server.listen[0] = c:3 from app:1
	// server.timeout = 5s from base.yaml:3
}

func ExampleFlatten_refused() {
	_, err := configsrc.Flatten(configsrc.YAML, []byte("a: 1\nb: .inf\na.c: 2\n"), configsrc.Origin{Name: "app.yaml"}, configsrc.Limits{})
	fmt.Println(err)
	// Output:
	// app.yaml:1: a: is a value here, and a.c (app.yaml:3) makes it a section; app.yaml:2: b: the number is not finite
}
