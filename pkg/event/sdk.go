package event

import (
	"fmt"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

// SDK is the event as the CloudEvents SDK for Go has it, for libraries that
// want it so. It copies attributes, shares the data, and allocates freely. The
// SDK normalises times and URIs: they may be written differently, not differ.
func (e Event) SDK() (cloudevents.Event, error) {
	version := e.SpecVersion()
	if version != version1 && version != version03 {
		return cloudevents.Event{}, fmt.Errorf("event for the SDK: specversion %s", quote(version))
	}
	out := cloudevents.New(version)
	for name, v := range e.Attributes() {
		if err := setSDK(&out, name, v, version); err != nil {
			return cloudevents.Event{}, fmt.Errorf("event for the SDK: %s: %w", shown(name), err)
		}
	}
	if e.HasData() {
		out.DataEncoded = e.Data()
		if e.form() == formBase64 {
			out.DataBase64 = true
			if v03, ok := out.Context.(*cloudevents.EventContextV03); ok {
				base64 := cloudevents.Base64
				v03.DataContentEncoding = &base64
			}
		}
	}
	return out, nil
}

func setSDK(out *cloudevents.Event, name string, v Value, version string) error {
	switch {
	case !core(name, version):
		extension, err := sdkValue(v)
		if err != nil {
			return err
		}
		return out.Context.SetExtension(name, extension)
	case name == AttrID:
		return out.Context.SetID(v.Text)
	case name == AttrSource:
		return out.Context.SetSource(v.Text)
	case name == AttrType:
		return out.Context.SetType(v.Text)
	case name == AttrSubject:
		return out.Context.SetSubject(v.Text)
	case name == AttrDataContentType:
		return out.Context.SetDataContentType(v.Text)
	case name == AttrDataSchema, name == AttrSchemaURL:
		return out.Context.SetDataSchema(v.Text)
	case name == AttrDataEncoding:
		return out.Context.DeprecatedSetDataContentEncoding(v.Text)
	case name == AttrTime:
		t, err := time.Parse(time.RFC3339Nano, v.Text)
		if err != nil {
			return err
		}
		return out.Context.SetTime(t)
	}
	return nil // specversion, given to New
}

func sdkValue(v Value) (any, error) {
	switch v.Kind {
	case Integer:
		return types.ParseInteger(v.Text)
	case Boolean:
		return types.ParseBool(v.Text)
	}
	return v.Text, nil
}

// FromSDK is an event of the CloudEvents SDK for Go as ours, validated. Data is
// taken as it stands in DataEncoded.
func FromSDK(in cloudevents.Event) (Event, error) {
	if in.Context == nil {
		return Event{}, malformed(AttrSpecVersion, "missing; every CloudEvent needs one")
	}
	b := new(Builder)
	version := in.SpecVersion()
	b.Set(AttrSpecVersion, version).Set(AttrID, in.ID()).Set(AttrSource, in.Source()).Set(AttrType, in.Type())
	schema := AttrDataSchema
	if version == version03 {
		schema = AttrSchemaURL
		if v := in.DeprecatedDataContentEncoding(); v != "" && !in.DataBase64 {
			b.Set(AttrDataEncoding, v)
		}
	}
	for _, a := range []Attribute{
		{AttrSubject, Value{Text: in.Subject()}},
		{AttrDataContentType, Value{Text: in.DataContentType()}},
		{schema, Value{Text: in.DataSchema()}},
	} {
		if a.Text != "" {
			b.Set(a.Name, a.Text)
		}
	}
	if t := in.Time(); !t.IsZero() {
		b.Set(AttrTime, types.FormatTime(t))
	}
	for name, v := range in.Extensions() {
		s, err := types.Format(v)
		if err != nil {
			return Event{}, malformed(shown(name), "%v", err)
		}
		kind := String
		switch v.(type) {
		case int32:
			kind = Integer
		case bool:
			kind = Boolean
		}
		b.SetValue(name, Value{Text: s, Kind: kind})
	}
	if err := b.Validate(); err != nil {
		return Event{}, err
	}
	if in.DataEncoded != nil {
		b.SetData(in.DataEncoded)
		if in.DataBase64 {
			b.flags |= flagBase64
		}
	}
	return b.Build()
}
