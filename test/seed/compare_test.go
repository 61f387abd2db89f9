package seed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"

	yamlv3 "go.yaml.in/yaml/v3"
)

func documents(t *testing.T, manifest []byte) []tree {
	t.Helper()
	var all []tree
	for dec := yamlv3.NewDecoder(bytes.NewReader(manifest)); ; {
		var v tree
		if err := dec.Decode(&v); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
}

// at walks into a tree: names lead into maps, numbers into lists. What is not
// there is nil.
func at(v any, path ...string) any {
	for _, step := range path {
		switch node := v.(type) {
		case tree:
			v = node[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(node) {
				return nil
			}
			v = node[i]
		default:
			return nil
		}
	}
	return v
}

// lacking lists what the article's block says and ours does not. A map of ours
// may have more keys; a list of ours may have more elements, in which each of
// the article's has one that says the same. except are paths that differ on
// purpose: each must really differ, or it has no business in the list.
func lacking(theirs, mine any, except ...string) []string {
	c := comparison{except: except, met: map[string]bool{}}
	c.compare("", theirs, mine)
	for _, path := range except {
		if !c.met[path] {
			c.found = append(c.found, path+": does not differ, or is not in the article")
		}
	}
	return c.found
}

type comparison struct {
	except []string
	met    map[string]bool
	found  []string
}

func (c *comparison) compare(path string, theirs, mine any) {
	if slices.Contains(c.except, path) {
		if len(lacking(theirs, mine)) > 0 {
			c.met[path] = true
		}
		return
	}
	switch theirs := theirs.(type) {
	case tree:
		m, ok := mine.(tree)
		if !ok {
			c.found = append(c.found, fmt.Sprintf("%s: there is %v", path, mine))
			return
		}
		for key, v := range theirs {
			c.compare(path+"/"+key, v, m[key])
		}
	case []any:
		list, ok := mine.([]any)
		if !ok {
			c.found = append(c.found, fmt.Sprintf("%s: there is %v", path, mine))
			return
		}
		for i, v := range theirs {
			c.element(fmt.Sprintf("%s/%d", path, i), v, list)
		}
	default:
		if fmt.Sprint(theirs) != fmt.Sprint(mine) {
			c.found = append(c.found, fmt.Sprintf("%s: the article has %v, there is %v", path, theirs, mine))
		}
	}
}

// element looks for one of ours that has all of theirs; if none has, the one
// that lacks least is told about.
func (c *comparison) element(path string, theirs any, mine []any) {
	var nearest *comparison
	for _, m := range mine {
		trial := &comparison{except: c.except, met: map[string]bool{}}
		trial.compare(path, theirs, m)
		if nearest == nil || len(trial.found) < len(nearest.found) {
			nearest = trial
		}
	}
	if nearest == nil {
		c.found = append(c.found, path+": the list is empty")
		return
	}
	c.found = append(c.found, nearest.found...)
	for path := range nearest.met {
		c.met[path] = true
	}
}

// superset fails the test where ours lacks something of the article's block.
func superset(t *testing.T, theirs, mine any, except ...string) {
	t.Helper()
	if found := lacking(theirs, mine, except...); len(found) > 0 {
		t.Errorf("ours is no superset of the article's block:\n%s", strings.Join(found, "\n"))
	}
}

// The comparison itself must be able to fail.
func TestTheComparisonSeesWhatIsMissing(t *testing.T) {
	theirs := tree{"a": 1, "list": []any{tree{"name": "x", "v": 1}, "y"}}
	for _, mine := range []tree{
		{"a": 2, "list": []any{tree{"name": "x", "v": 1}, "y"}},
		{"list": []any{tree{"name": "x", "v": 1}, "y"}},
		{"a": 1, "list": []any{tree{"name": "x"}, "y"}},
		{"a": 1, "list": []any{tree{"name": "x", "v": 1}}},
		{"a": 1, "list": "y"},
		{"a": 1},
	} {
		if len(lacking(theirs, mine)) == 0 {
			t.Errorf("%v passes for %v", mine, theirs)
		}
	}
	more := tree{"a": 1, "b": 2, "list": []any{"z", "y", tree{"name": "x", "v": 1, "w": 2}}}
	if found := lacking(theirs, more); len(found) > 0 {
		t.Errorf("a superset is refused: %v", found)
	}
	if found := lacking(theirs, tree{"a": 2, "list": more["list"]}, "/a"); len(found) > 0 {
		t.Errorf("an exception is refused: %v", found)
	}
	if found := lacking(theirs, more, "/a"); len(found) != 1 {
		t.Errorf("an exception for nothing is accepted: %v", found)
	}
}
