//! Flow text that ovs-ofctl refuses is refused here, too, and the error says what is wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/ovs.rs"]
#[allow(dead_code, reason = "this test needs no switch")]
mod ovs;

use rust_openflow::text;

/// A flow, and a word of the error.
const REFUSED: &[(&str, &str)] = &[
    ("ip", "actions="),
    ("foo=1 actions=drop", "foo"),
    ("ip,nw_src=10.0.0.1/33 actions=drop", "10.0.0.1/33"),
    ("ip,nw_src=10.0.0 actions=drop", "nw_src"),
    ("ipv6,ipv6_src=fe80::g actions=drop", "ipv6_src"),
    ("ip,nw_frag=foo actions=drop", "nw_frag"),
    ("ip,nw_ttl=256 actions=drop", "nw_ttl"),
    ("dl_src=1:2:3:4:5 actions=drop", "dl_src"),
    ("dl_type=0x10000 actions=drop", "dl_type"),
    ("conj_id=5/7 actions=drop", "conj_id"),
    ("ct_zone=5/7 actions=drop", "ct_zone"),
    ("ct_state=foo actions=drop", "ct_state"),
    ("ct_state=+trk+trk actions=drop", "ct_state"),
    ("ct_state=0x100/0x100 actions=drop", "ct_state"),
    ("tcp,tcp_flags=0x1012/0x1012 actions=drop", "tcp_flags"),
    ("reg0=0x1ffffffff actions=drop", "reg0"),
    ("reg0=5/0x1ffffffff actions=drop", "reg0"),
    ("reg16=1 actions=drop", "reg16"),
    ("reg0[30..33]=1 actions=drop", "reg0"),
    ("NXM_NX_REG0=5 actions=drop", "NXM_NX_REG0"),
    ("reg0=-1 actions=drop", "reg0"),
    ("metadata=-0x10000000000000000 actions=drop", "metadata"),
    ("metadata=+-1 actions=drop", "metadata"),
    ("tun_metadata1,tun_metadata1=5 actions=drop", "tun_metadata1"),
    ("tun_metadata1=5,tun_metadata1=6 actions=drop", "tun_metadata1"),
    ("in_port=70000 actions=drop", "70000"),
    ("in_port=foo actions=drop", "foo"),
    ("table=256 actions=drop", "256"),
    ("priority=65536 actions=drop", "65536"),
    ("priority=-1 actions=drop", "-1"),
    ("idle_timeout=70000 actions=drop", "idle_timeout"),
    ("cookie=1/2 actions=drop", "cookie"),
    ("out_port=1 actions=drop", "out_port"),
    ("tun_ttl=3 actions=drop", "tun_ttl"),
    ("skb_priority=3 actions=drop", "skb_priority"),
    ("actions=fly", "fly"),
    ("actions=output", "output"),
    ("actions=output(port=1,max_len=13)", "output"),
    ("actions=output(port=CONTROLLER,max_len=100)", "output"),
    ("actions=output:NONE", "output"),
    ("actions=output:reg0[5..33]", "output"),
    ("actions=drop,output:1", "drop"),
    ("actions=output:1,drop", "drop"),
    ("actions=goto_table:5,clear_actions", "clear_actions"),
    ("actions=goto_table:5,goto_table:6", "goto_table"),
    ("actions=write_actions(output:1),clear_actions", "clear_actions"),
    ("actions=write_metadata:1,output:1", "output"),
    ("table=5,actions=goto_table:5", "later"),
    ("table=5,actions=goto_table:4", "later"),
    ("actions=push_vlan:0x1234", "push_vlan"),
    ("actions=pop_vlan", "pop_vlan"),
    ("dl_vlan=1,actions=push_vlan:0x8100,push_vlan:0x8100", "two"),
    ("actions=push_mpls:0x800", "push_mpls"),
    ("actions=pop_mpls:0x800", "mpls"),
    ("actions=dec_ttl", "ip"),
    ("actions=mod_nw_ttl:5", "ip"),
    ("actions=mod_nw_src:1.2.3.4", "ip"),
    ("ipv6,actions=mod_nw_src:1.2.3.4", "ip"),
    ("ip,actions=mod_nw_tos:5", "mod_nw_tos"),
    ("ip,actions=mod_tp_dst:5", "mod_tp_dst"),
    ("actions=mod_vlan_vid:4096", "mod_vlan_vid"),
    ("actions=set_field:5->vlan_vid", "vlan_vid"),
    ("packet_type=(1,0x894f) actions=push_vlan:0x8100,set_field:4668->vlan_vid", "vlan_vid"),
    ("packet_type=(1,0x894f) actions=mod_vlan_pcp:5", "vlan_pcp"),
    ("actions=set_field:1.2.3.4->ip_src", "nw_src"),
    ("actions=set_field:5->tcp_dst", "tcp_dst"),
    ("tcp,nw_frag=later,actions=set_field:5->tcp_dst", "later"),
    ("actions=set_field:5->reg0[3..5]", "reg0"),
    ("actions=set_field:0x1ffffffff->reg0", "reg0"),
    ("actions=set_field:5->ct_mark", "ct_mark"),
    ("tcp,actions=set_field:5->tcp_flags", "tcp_flags"),
    ("actions=set_field:5->dl_type", "eth_type"),
    ("actions=set_field:5->conj_id", "conj_id"),
    ("actions=load:0x1ffffffff->NXM_NX_REG0[]", "load"),
    ("actions=load:16->reg0[0..3]", "load"),
    ("actions=load:1->ct_state[]", "ct_state"),
    ("actions=move:reg0[0..5]->reg1[0..6]", "move"),
    ("actions=move:ip_src[]->reg0[]", "ip"),
    ("actions=fin_timeout(idle_timeout=5)", "tcp"),
    ("actions=resubmit:in_port", "resubmit"),
    ("actions=resubmit(,ct)", "resubmit"),
    ("ip,actions=resubmit(,5,ct)", "ct_state"),
    ("actions=note:1", "note"),
    ("actions=controller(reason=foo)", "reason"),
    ("actions=controller(userdata=1)", "userdata"),
    ("actions=conjunction(1,1/1)", "conjunction"),
    ("actions=conjunction(1,3/2)", "conjunction"),
    ("actions=conjunction(1,0/2)", "conjunction"),
    ("actions=conjunction(1,1/65)", "conjunction"),
    ("actions=conjunction(1,1/2),output:1", "conjunction"),
    ("actions=multipath(foo,50,hrw,1,0,reg0[])", "multipath"),
    ("actions=multipath(eth_src,50,hrw,1024,0,reg0[0..3])", "multipath"),
    ("actions=bundle(eth_src,50,hrw,eth0,members:1)", "bundle"),
    ("actions=bundle_load(eth_src,50,hrw,ofport,members:1)", "bundle"),
    ("actions=sample(collector_set_id=1)", "sample"),
    ("actions=ct", "ip"),
    ("ip,actions=ct(table=255)", "table"),
    ("ip,actions=ct(force)", "ct"),
    ("ip,actions=ct(zone=70000)", "zone"),
    ("ip,actions=ct(zone=reg0[0..7])", "zone"),
    ("ip,actions=ct(alg=21)", "alg"),
    ("udp,actions=ct(commit,alg=ftp)", "ftp"),
    ("ip,actions=ct(commit,exec(output:1))", "exec"),
    ("ip,actions=ct(commit,exec(set_field:1->reg0))", "ct_mark"),
    ("ip,actions=ct(exec(set_field:1->ct_mark))", "commit"),
    ("ip,actions=ct(commit,nat(src=fd00::1))", "nat"),
    ("ip,actions=ct(commit,nat(src=1.2.3.4-1.2.3.3))", "nat"),
    ("ip,actions=ct(commit,nat(src=1.2.3.4,dst=1.2.3.4))", "nat"),
    ("ip,actions=ct(commit,nat(random))", "nat"),
    ("ip,actions=ct(commit,nat(src=1.2.3.4,random,hash))", "nat"),
    ("actions=nat", "nat"),
    ("actions=encap(foo)", "encap"),
    ("actions=encap(nsh(md_type=3))", "md_type"),
    ("actions=decap(foo)", "decap"),
    ("actions=dec_nsh_ttl", "dec_nsh_ttl"),
    ("actions=check_pkt_larger(100)", "check_pkt_larger"),
    ("actions=check_pkt_larger(100)->reg0[]", "check_pkt_larger"),
    ("actions=delete_field:reg0", "delete_field"),
    ("actions=learn(foo=1)", "foo"),
    ("actions=learn(table=255)", "table"),
    ("actions=learn(nw_proto=6,tcp_dst=5)", "ip"),
    ("actions=learn(reg0=reg1[0..5])", "reg0"),
    ("actions=learn(result_dst=reg0[0..3])", "result_dst"),
    ("actions=clone(fly)", "fly"),
    ("actions=write_actions(note:00)", "write_actions"),
    ("actions=write_actions(output(port=1,max_len=100))", "write_actions"),
    ("actions=write_actions(goto_table:5)", "goto_table"),
    ("actions=conjunction(1,1/2),goto_table:5", "conjunction"),
    ("actions=conjunction(1,1/2),meter:5", "meter"),
    ("ip,actions=ct(zone=xreg0)", "zone"),
];

/// Flows that ovs-ofctl writes, and a switch then refuses, or that it makes wider in silence.
const REFUSED_BY_US: &[(&str, &str)] = &[
    ("tcp_dst=80 actions=drop", "tcp_dst"),
    ("ip,tp_dst=80 actions=drop", "tp_dst"),
    ("nw_src=10.0.0.1 actions=drop", "nw_src"),
    ("tcp,nw_frag=later,tp_dst=80 actions=drop", "later"),
    ("ip,ct_state=+trk,ct_nw_src=1.2.3.4 actions=drop", "ct_state"),
    ("ct_state=+est,ct_nw_src=1.2.3.4 actions=drop", "ip"),
    ("ip,ct_state=+est,ct_tp_src=5 actions=drop", "ct_nw_proto"),
    ("ip,nw_ecn=4 actions=drop", "nw_ecn"),
    ("vlan_pcp=9 actions=drop", "vlan_pcp"),
    ("dl_vlan=5000 actions=drop", "dl_vlan"),
    ("vlan_tci=0xf123/0xe0ff actions=drop", "VLAN"),
    ("tun_erspan_dir=0 actions=drop", "tun_erspan_dir"),
    ("actions=meter:0", "meter"),
];

#[test]
fn what_ovs_ofctl_refuses_is_refused() {
    for (line, word) in REFUSED {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), line).unwrap();
        let path = file.path().display().to_string();
        let output = ovs::run("ovs-ofctl", &["-O", "OpenFlow13", "parse-flows", &path]);
        let said = String::from_utf8_lossy(&output.stdout);
        let decoded = said.contains("OFPT_FLOW_MOD") && !said.contains("decode error");
        assert!(!output.status.success() || !decoded, "ovs-ofctl takes {line}");
        let error = text::parse_flow_mod(line).err().unwrap_or_else(|| panic!("we take {line}"));
        assert!(error.to_string().contains(word), "{line}: {error}");
    }
}

/// Numbers that ovs-ofctl reads, and what it makes of them.
///
/// OVS 3.1.0: ovs-ofctl -O OpenFlow13 parse-flow
#[test]
fn numbers_with_signs() {
    for (line, text) in [
        ("metadata=-1 actions=drop", "metadata=0xffffffffffffffff actions=drop"),
        ("metadata=-2/-1 actions=drop", "metadata=0xfffffffffffffffe actions=drop"),
        ("metadata=-010 actions=drop", "metadata=0xfffffffffffffff8 actions=drop"),
        ("xreg0=-1 actions=drop", "reg0=0xffffffff,reg1=0xffffffff actions=drop"),
        ("ct_label=-1 actions=drop", "ct_label=0xffffffffffffffff actions=drop"),
        ("reg0=-18446744073709551615 actions=drop", "reg0=0x1 actions=drop"),
        ("tun_metadata2=-1 actions=drop", "tun_metadata2=0xffffffffffffffff actions=drop"),
        ("reg0=+5 actions=drop", "reg0=0x5 actions=drop"),
        ("actions=write_metadata:-1", "actions=write_metadata:0xffffffffffffffff"),
        ("actions=set_field:-0x5->metadata", "actions=set_field:0xfffffffffffffffb->metadata"),
        ("actions=group:+5", "actions=group:5"),
        ("actions=set_field:5->tun_erspan_hwid", "actions=set_field:0x5->tun_erspan_hwid"),
        (
            "actions=set_field:5/0x3f->tun_erspan_hwid",
            "actions=set_field:0x5/0x3f->tun_erspan_hwid",
        ),
        ("actions=set_field:5/0xff->tun_erspan_hwid", "actions=set_field:0x5->tun_erspan_hwid"),
    ] {
        let theirs = ovs::must("ovs-ofctl", &["-O", "OpenFlow13", "parse-flow", line]);
        assert!(theirs.trim_end().ends_with(text), "{line}: {theirs}");
        let flow = text::parse_flow_mod(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let ours = text::flow_mod(&flow, &text::Names::default());
        assert!(ours.ends_with(text), "{line}: {ours}");
    }
}

#[test]
fn what_would_match_more_than_it_says_is_refused() {
    for (line, word) in REFUSED_BY_US {
        let error = text::parse_flow_mod(line).err().unwrap_or_else(|| panic!("we take {line}"));
        assert!(error.to_string().contains(word), "{line}: {error}");
    }
}

#[test]
fn brackets_without_end_are_an_error() {
    for inner in ["clone(", "ct(commit,exec(", "learn(", "write_actions("] {
        let open = format!("ip actions={}", inner.repeat(2_000));
        assert!(text::parse_flow_mod(&open).is_err());
    }
    let deep = format!("actions={}output:1{}", "clone(".repeat(500), ")".repeat(500));
    let error = text::parse_flow_mod(&deep).unwrap_err();
    assert!(error.to_string().contains("brackets"), "{error}");
}

#[test]
fn a_file_names_the_line() {
    let error =
        text::parse_flows("# comment\nip actions=drop # more\n\ntcp actions=fly\n").unwrap_err();
    assert_eq!(error.to_string(), "line 4: unknown action \"fly\"");
}
