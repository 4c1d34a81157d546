"""Costs read from the HLO text of a compiled program."""

import pytest

from effnetv2_jax.analysis.hlo import AllReduce, read_cost

# Excerpts from programs compiled for v5e and v4, with shortened backend_configs.
TEXT = """HloModule jit_train_step, is_scheduled=true

%region_0.1 (a: f32[], b: f32[]) -> f32[] {
  %a = f32[]{:T(128)} parameter(0)
  %b = f32[]{:T(128)} parameter(1)
  ROOT %add.1 = f32[]{:T(128)} add(%a, %b)
}

%fused_computation.1 (p: bf16[8,8,8,16], q: bf16[3,3,16,16]) -> bf16[8,8,8,16] {
  %p = bf16[8,8,8,16]{3,0,2,1:T(8,128)(2,1)} parameter(0)
  %q = bf16[3,3,16,16]{3,2,1,0:T(8,128)(2,1)} parameter(1)
  ROOT %convolution.3 = bf16[8,8,8,16]{3,0,2,1:T(8,128)(2,1)} convolution(%p, %q), window={size=3x3 pad=1_1x1_1}
}

%body.2 (t: (s32[], f32[8])) -> (s32[], f32[8]) {
  %t = (s32[]{:T(128)}, f32[8]{0:T(128)}) parameter(0)
  %x = f32[8]{0:T(128)} get-tuple-element(%t), index=1
  %all-reduce.5 = f32[8]{0:T(128)S(1)} all-reduce(%x), channel_id=1, replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%region_0.1, metadata={op_name="jit(train_step)/while/body/jvp(EfficientNetV2)/stem_norm/reduce_sum"}
  %fusion.8 = f32[8]{0:T(128)} fusion(%all-reduce.5), kind=kLoop, calls=%region_0.1, metadata={op_name="jit(train_step)/while/body/jvp(EfficientNetV2)/stem_norm/mul"}, backend_config={"window_config":{"estimated_cycles":"10"}}
  ROOT %tuple.1 = (s32[]{:T(128)}, f32[8]{0:T(128)}) tuple(%t, %fusion.8)
}

%condition.2 (t: (s32[], f32[8])) -> pred[] {
  %t.1 = (s32[]{:T(128)}, f32[8]{0:T(128)}) parameter(0)
  ROOT %c = pred[]{:T(512)} constant(true)
}

ENTRY %main.9_spmd (param: bf16[8,8,8,16], param.1: bf16[3,3,16,16]) -> f32[8] {
  %param = bf16[8,8,8,16]{3,0,2,1:T(8,128)(2,1)} parameter(0)
  %param.1 = bf16[3,3,16,16]{3,2,1,0:T(8,128)(2,1)} parameter(1)
  %fusion.1 = bf16[8,8,8,16]{3,0,2,1:T(8,128)(2,1)} fusion(%param, %param.1), kind=kOutput, calls=%fused_computation.1, metadata={op_name="jit(train_step)/transpose(jvp(EfficientNetV2))/block_0/fused_conv/conv_general_dilated"}, backend_config={"window_config":{"estimated_cycles":"1000"}}
  %all-reduce.2 = (f32[8]{0:T(128)S(1)}, bf16[2,3]{1,0:T(8,128)S(1)}) all-reduce(%fusion.1, %fusion.1), channel_id=2, replica_groups=mesh['axis_0'=8,'axis_1'=2] {'axis_0'}, to_apply=%region_0.1, metadata={op_name="jit(train_step)/add"}
  %all-reduce-start.3 = f32[4]{0:T(128)} all-reduce-start(%fusion.1), channel_id=3, replica_groups=[4,4]<=[16], to_apply=%region_0.1
  %send.6 = (f32[8,8,128]{2,1,0:T(8,128)}, u32[], token[]) send(%bitcast, %after-all), channel_id=2, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_megascale_reduce_operation="SUM"}
  %copy.4 = f32[8]{0:T(128)} copy(%fusion.1), metadata={op_name="jit(train_step)/add"}, backend_config={"estimated_cycles":"7"}
  ROOT %while.7 = (s32[]{:T(128)}, f32[8]{0:T(128)}) while(%copy.4), condition=%condition.2, body=%body.2, backend_config={"known_trip_count":{"n":"3"}}
}
"""  # noqa: E501


def test_cycles_are_summed_over_the_entry_with_loops_unrolled():
    cost = read_cost(TEXT)
    assert cost.cycles == 1000 + 7 + 3 * 10
    assert cost.by_kind == {"convolution": 1000, "copies": 7, "element by element": 30}
    assert cost.by_layer == {
        "block_0/fused_conv (gradient)": 1000,
        "loss, optimiser and averages": 7,
        "stem_norm": 30,
    }


def test_all_reduces_have_bytes_and_groups():
    assert read_cost(TEXT).all_reduces == (
        AllReduce(8 * 4 + 6 * 2, 8),
        AllReduce(4 * 4, 4, waits=False),
        *3 * [AllReduce(8 * 4, 4)],
    )


def test_messages_to_other_slices_have_bytes():
    assert read_cost(TEXT).sends == (8 * 8 * 128 * 4,)


def test_a_text_without_a_program_is_refused():
    with pytest.raises(ValueError, match="no entry computation"):
        read_cost("HloModule empty")
