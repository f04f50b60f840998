(function(){"use strict";
var NS="http://www.w3.org/2000/svg",TOP=26,RIGHT=14,BOTTOM=20,MOST=4000,
VIRIDIS=["#440154","#3b528b","#21918c","#5ec962","#fde725"];
function make(tag,attributes,text){var e=document.createElementNS(NS,tag);
for(var k in attributes)e.setAttribute(k,attributes[k]);if(text!==undefined)e.textContent=text;return e}
function html(tag,text,name){var e=document.createElement(tag);if(text!==undefined)e.textContent=text;if(name)e.className=name;return e}
function short(v,n){return v===null||v===undefined?"–":String(+(+v).toPrecision(n||5))}
function ramp(u){u=Math.max(0,Math.min(1,u))*4;var k=Math.min(3,Math.floor(u)),f=u-k,c="#";
for(var i=1;i<7;i+=2){var a=parseInt(VIRIDIS[k].substr(i,2),16),b=parseInt(VIRIDIS[k+1].substr(i,2),16);
c+=("0"+Math.round(a+(b-a)*f).toString(16)).slice(-2)}return c}
function ticks(a,b){var raw=(b-a)/6,p=Math.pow(10,Math.floor(Math.log10(raw))),s=[1,2,2.5,5,10].map(function(k){return k*p})
.find(function(k){return k>=raw}),d=0,out=[];while(d<10&&Math.abs(s*Math.pow(10,d)-Math.round(s*Math.pow(10,d)))>1e-6)d++;
for(var t=Math.ceil(a/s)*s;t<=b+1e-9*s;t+=s)out.push([t,t.toFixed(d)]);return out}

function explore(root){
var D=JSON.parse(root.querySelector('script[type="application/json"]').textContent),svg=root.querySelector("svg"),
said=root.querySelector(".dg-said"),tools=root.querySelector(".dg-tools"),find=root.querySelector(".dg-find"),
level=root.querySelector(".dg-level"),count=root.querySelector(".dg-count"),colour=root.querySelector(".dg-colour"),
N=D.parent.length,kids=D.parent.map(function(){return[]}),roots=[],shown=[],tip=make("g",{}),hovered=-1,chosen=-1,
span=D.high-D.low||1,pad=.02*D.minima,whole={x0:-.7-pad,x1:D.minima-.3+pad,y0:D.low-.04*span,y1:D.high+.03*span},
V=Object.assign({},whole),W=0,H=0,L=0,drag=null,width=Math.max(.6,Math.min(2,2.6-.6*Math.log10(Math.max(D.minima,2))));
for(var b=0;b<N;b++)(D.parent[b]<0?roots:kids[D.parent[b]]).push(b);
kids.concat([roots]).forEach(function(k){k.sort(function(i,j){return D.x[i]-D.x[j]})});
tools.hidden=false;root.querySelector(".dg-keys").hidden=false;svg.setAttribute("tabindex","0");
function name(b){return D.level[b]+"_"+D.node[b]}
function px(x){return L+(x-V.x0)/(V.x1-V.x0)*(W-L-RIGHT)}
function py(e){return TOP+(V.y1-e)/(V.y1-V.y0)*(H-TOP-BOTTOM)}
function up(b){return D.parent[b]<0?D.head[b]:D.foot_of[D.parent[b]]}
D.foot_of=D.foot.map(function(e,i){return D.count[i]>1?D.levels[D.last[i]-1]:e});
function path(b){var x=px(D.x[b]).toFixed(1),p=D.parent[b],y=py(up(b)).toFixed(1),
own=py(Math.min(up(b),Math.max(D.levels[D.level[b]-1],D.foot[b]))).toFixed(1);
return "M"+(p<0?x:px(D.x[p]).toFixed(1))+","+y+"L"+x+","+own+"L"+x+","+py(D.foot[b]).toFixed(1)}
function paint(b){if(!colour||!colour.value)return D.colours[D.colour[b]];
var v=D.columns[colour.value],r=range(colour.value);return v[b]===null?"var(--muted,#a9b1bb)":ramp(Math.round(24*(v[b]-r[0])/(r[1]-r[0]||1))/24)}
var ranges={};function range(k){if(!ranges[k]){var v=D.columns[k].filter(function(a){return a!==null});
ranges[k]=[Math.min.apply(null,v.concat([Infinity])),Math.max.apply(null,v.concat([-Infinity]))]}return ranges[k]}
function path_to(b){var s={};while(b>=0){s[b]=1;b=D.parent[b]}return s}
function layout(){
var deepest=+level.value,least=Math.max(1,+count.value||1),keep=path_to(chosen),stack=roots.slice(),wedges=[],seen=0;shown=[];
while(stack.length){var b=stack.pop();if(D.right[b]<V.x0-1||D.left[b]>V.x1+1)continue;
shown.push(b);var o=D.folds[b]||[Infinity,-Infinity,Infinity],f={n:D.folded[b],low:o[2],l:o[0],r:o[1]},narrow=px(D.right[b])-px(D.left[b])<1.2&&D.count[b]>3;
kids[b].forEach(function(k){if(keep[k]||(D.level[k]<=deepest&&(D.count[k]>=least)&&!narrow&&shown.length+stack.length<MOST))stack.push(k);
else{f.n+=D.count[k];f.low=Math.min(f.low,D.lowest[k]);f.l=Math.min(f.l,D.left[k]);f.r=Math.max(f.r,D.right[k])}});
if(f.n)wedges.push([b,f])}
return wedges}
function draw(){
W=Math.max(280,root.clientWidth||980);H=W<640?400:560;L=W<640?56:78;
svg.setAttribute("viewBox","0 0 "+W+" "+H);svg.setAttribute("width",W);svg.setAttribute("height",H);
var g=document.createDocumentFragment(),clip=make("clipPath",{id:D.name+"-clip"}),defs=make("defs",{}),lines={},body,wedges=layout();
clip.appendChild(make("rect",{x:L-8,y:0,width:W-L+8,height:H}));defs.appendChild(clip);g.appendChild(defs);
ticks(V.y0,V.y1).forEach(function(t){var y=py(t[0]);if(y<TOP-4||y>H-4)return;
g.appendChild(make("line",{"class":"rule",x1:L-6,x2:W-RIGHT,y1:y,y2:y}));
g.appendChild(make("text",{"class":"soft",x:L-10,y:y,dy:4,"text-anchor":"end"},t[1]))});
g.appendChild(make("text",{"class":"ink",transform:"translate(14,"+H/2+") rotate(-90)","text-anchor":"middle"},D.energy));
body=make("g",{"clip-path":"url(#"+D.name+"-clip)"});
var counts=[];wedges.sort(function(a,b){return b[1].n-a[1].n}).forEach(function(w){var b=w[0],f=w[1],x=px(D.x[b]),y=py(D.foot_of[b]),l=px(f.l),r=px(f.r),e=py(f.low);
if(r-l<2){l-=1;r+=1}
body.appendChild(make("path",{"class":"wedge",d:"M"+x.toFixed(1)+","+y.toFixed(1)+"L"+l.toFixed(1)+","+e.toFixed(1)+"L"+r.toFixed(1)+","+e.toFixed(1)+"Z",style:"fill:"+paint(b)}));
var at=(l+r)/2;if(r-l>30&&!counts.some(function(q){return Math.abs(q[0]-at)<44&&Math.abs(q[1]-e)<13})&&counts.push([at,e]))body.appendChild(make("text",{"class":"soft",x:(l+r)/2,y:Math.min(e+13,H-4),"text-anchor":"middle","font-size":11},f.n.toLocaleString("en")))});
shown.forEach(function(b){var k=paint(b)+"|"+(D.wide[b]?1.35:1);lines[k]=(lines[k]||"")+path(b)});
Object.keys(lines).sort(function(a,b){return a.split("|")[1]-b.split("|")[1]}).forEach(function(k){var p=k.split("|");
body.appendChild(make("path",{d:lines[k],stroke:p[0],"stroke-width":width*p[1]}))});
var deepest=+level.value;if(deepest<D.levels.length){var y=py(D.levels[deepest-1]);
body.appendChild(make("line",{"class":"cutline",x1:L,x2:W-RIGHT,y1:y,y2:y}))}
root.querySelector(".dg-level-said").textContent=" "+deepest+" of "+D.levels.length+", "+D.energy+" "+short(D.levels[deepest-1],4);
if(chosen>=0){var s=path_to(chosen),d="";Object.keys(s).forEach(function(b){d+=path(+b)});
body.appendChild(make("path",{"class":"chosen",d:d}));
body.appendChild(make("circle",{"class":"chosen",cx:px(D.x[chosen]),cy:py(D.foot[chosen]),r:5}))}
g.appendChild(body);
if(!colour||!colour.value){var placed=[];D.labels.forEach(function(l){var b=l[2];
if(shown.indexOf(b)<0)return;var x=px(D.x[b])+6,y=Math.max(py(l[3])+4,TOP+8);
while(placed.some(function(q){return Math.abs(q[0]-x)<9*l[0].length&&Math.abs(q[1]-y)<15}))y-=15;placed.push([x,y]);
if(y>8&&y<H-6&&x>L-6&&x<W-10)g.appendChild(make("text",{"class":"name",x:Math.min(x,W-RIGHT-8*l[0].length),y:y,fill:l[1]},l[0]))})}
else{var r=range(colour.value);for(var k=0;k<25;k++)g.appendChild(make("rect",{x:W-RIGHT-150+k*4,y:4,width:4.2,height:9,fill:ramp(k/24)}));
g.appendChild(make("text",{"class":"soft",x:W-RIGHT-156,y:13,"text-anchor":"end","font-size":11},colour.value+" "+short(r[0],3)));
g.appendChild(make("text",{"class":"soft",x:W-RIGHT-46,y:13,"font-size":11},short(r[1],3)))}
if(D.notes&&!(colour&&colour.value)&&W>=640)g.appendChild(make("text",{"class":"soft",x:W-RIGHT,y:12,"text-anchor":"end","font-size":11},D.notes));
tip=make("g",{"class":"tip"});g.appendChild(tip);svg.replaceChildren(g);hovered=-1}
function facts(b){return D.count[b]>1?[["group",name(b)+(D.last[b]>D.level[b]?" (levels "+D.level[b]+" to "+D.last[b]+")":"")],
["minima",D.count[b].toLocaleString("en")],["lowest "+D.energy,short(D.lowest[b],7)+" (minimum "+D.number[b]+")"],
["joined below",short(D.levels[D.level[b]-1],6)]].concat(Object.keys(D.columns).map(function(k){return["mean "+k,short(D.columns[k][b],4)]})):
[["minimum",D.number[b]],[D.energy,short(D.lowest[b],8)],["found",D.hits[b]+(D.hits[b]===1?" time":" times")]]
.concat(Object.keys(D.columns).map(function(k){return[k,short(D.columns[k][b],4)]}))}
function hover(b){if(b===hovered)return;hovered=b;tip.replaceChildren();if(b<0)return;
tip.appendChild(make("path",{"class":"hovered",d:path(b)}));
var rows=facts(b).map(function(f){return f[0]+" "+f[1]}),wide=14+6.6*Math.max.apply(null,rows.map(function(r){return r.length})),
x=Math.min(px(D.x[b])+12,W-wide-4),y=Math.min(Math.max(py(D.foot[b])-10,4),H-16*rows.length-14);if(x<2)x=2;
tip.appendChild(make("rect",{"class":"box",x:x,y:y,width:wide,height:16*rows.length+10,rx:5}));
rows.forEach(function(r,i){tip.appendChild(make("text",{"class":"told",x:x+7,y:y+18+16*i},r))})}
function nearest(event){var box=svg.getBoundingClientRect(),mx=(event.clientX-box.left)*W/box.width,my=(event.clientY-box.top)*H/box.height,
best=-1,least=14;shown.forEach(function(b){var x=px(D.x[b]),a=py(up(b)),z=py(D.foot[b]),
d=Math.abs(mx-x)+Math.max(0,a-my,my-z)+(D.count[b]>1?.5:0);if(d<least){least=d;best=b}});return best}
function choose(b,quiet){chosen=b;said.replaceChildren();draw();if(b<0)return;
said.appendChild(html("h3",D.count[b]>1?"Group "+name(b):"Minimum "+D.number[b]));
var list=html("dl");facts(b).slice(1).forEach(function(f){var pair=html("div");pair.appendChild(html("dt",f[0]));pair.appendChild(html("dd",f[1]));list.appendChild(pair)});
said.appendChild(list);predicts(D.number[b],D.count[b]>1)}
function predicts(number,group){var S=D.sayings;if(!S)return;var k=S.of.indexOf(number);
if(k<0){said.appendChild(html("p","What it predicts is kept for the "+S.of.length.toLocaleString("en")+" lowest minima only.","soft"));return}
var best=S.of.indexOf(Math.min.apply(null,S.of)),whose=group?"its lowest minimum":"it";
if(S.side){var wrap=html("div",undefined,"dg-map"),c=html("canvas"),n=S.side,q=c.getContext("2d"),
A="ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";c.width=c.height=n;
for(var i=0;i<n*n;i++){var u=A.indexOf(S.maps[k][i])/63;q.fillStyle="rgb("+Math.round(31+u*169)+","+Math.round(95-u*45)+","+Math.round(153-u*110)+")";
q.globalAlpha=.25+1.5*Math.abs(u-.5);q.fillRect(i%n,Math.floor(i/n),1,1)}
c.setAttribute("role","img");c.setAttribute("aria-label","What "+whose+" decides over "+S.axes.join(" and "));
wrap.appendChild(c);wrap.appendChild(html("p","What "+whose+" decides over "+S.axes[0]+" (across) and "+S.axes[1]+" (up): red "+S.outputs[S.outputs.length-1]+", blue "+S.outputs[0]+".","soft"));said.appendChild(wrap)}
if(!S.rows.length)return;
said.appendChild(html("p","What "+whose+" predicts for the test rows on which the networks disagree most"+(S.outputs.length>1?" (probabilities)":"")+", beside the best network:","soft"));
var wrapper=html("div",undefined,"wrap"),table=html("table"),head=html("tr");wrapper.tabIndex=0;
["row"].concat(S.truth.length?["true"]:[],S.outputs,S.outputs.map(function(o){return"best: "+o})).forEach(function(t,i){var h=html("th",t,i>(S.truth.length?1:0)?"n":"");h.scope="col";head.appendChild(h)});
var top=html("thead"),rest=html("tbody");top.appendChild(head);table.appendChild(top);table.appendChild(rest);
S.rows.forEach(function(r,i){var line=html("tr");[r].concat(S.truth.length?[S.truth[i]]:[]).forEach(function(t){line.appendChild(html("td",t))});
S.values[k][i].concat(S.values[best][i]).forEach(function(v){line.appendChild(html("td",short(v,3),"n"))});rest.appendChild(line)});
wrapper.appendChild(table);said.appendChild(wrapper)}
function zoom(f,x,y){x=x===undefined?(V.x0+V.x1)/2:x;y=y===undefined?(V.y0+V.y1)/2:y;
V={x0:x-(x-V.x0)/f,x1:x+(V.x1-x)/f,y0:y-(y-V.y0)/f,y1:y+(V.y1-y)/f};
if(V.x1-V.x0>whole.x1-whole.x0)V=Object.assign({},whole);draw()}
function show(b){if(b<0){V=Object.assign({},whole);draw();return}
var o=D.count[b]>1?b:Math.max(D.parent[b],0),w=Math.max(D.right[o]-D.left[o],4),t=Math.min(up(o),D.high),e=Math.max(t-D.lowest[o],1e-3*span);
V={x0:D.left[o]-.08*w-.5,x1:D.right[o]+.08*w+.5,y0:D.lowest[o]-.1*e,y1:t+.1*e};draw()}
function search(){var t=find.value.trim().toLowerCase().replace(/^(minimum|group)\s*/,"");if(!t)return;
var group=/^(\d+)_(\d+)$/.exec(t),b=-1;
var named=group&&D.labels.find(function(l){return l[0]===t});
if(named)b=named[2];else if(group)b=D.parent.findIndex(function(_,i){return D.node[i]===+group[2]&&D.level[i]===+group[1]});
else if(/^\d+$/.test(t)){b=D.parent.findIndex(function(_,i){return D.count[i]===1&&D.number[i]===+t});
if(b<0)b=D.number.lastIndexOf(+t)}
if(b>=0){choose(b);show(b);return}
choose(-1);said.appendChild(html("p",group?"No group is first called "+t+": a group has its name from the highest level at which it has its members.":
"Minimum "+t+" is not among the branches that this page holds; minima.csv has all.","warn"))}
svg.addEventListener("pointermove",function(e){if(drag){var box=svg.getBoundingClientRect(),dx=(e.clientX-drag.x)/box.width*W/(W-L-RIGHT)*(drag.v.x1-drag.v.x0),
dy=(e.clientY-drag.y)/box.height*H/(H-TOP-BOTTOM)*(drag.v.y1-drag.v.y0);if(Math.abs(e.clientX-drag.x)+Math.abs(e.clientY-drag.y)>4)drag.moved=true;
if(drag.moved){V={x0:drag.v.x0-dx,x1:drag.v.x1-dx,y0:drag.v.y0+dy,y1:drag.v.y1+dy};draw()}return}hover(nearest(e))});
svg.addEventListener("pointerleave",function(){hover(-1)});
svg.addEventListener("pointerdown",function(e){drag={x:e.clientX,y:e.clientY,v:V,moved:false}});
addEventListener("pointerup",function(e){if(!drag)return;var moved=drag.moved;drag=null;if(!moved&&svg.contains(e.target))choose(nearest(e))});
svg.addEventListener("dblclick",function(e){e.preventDefault();show(nearest(e))});
svg.addEventListener("wheel",function(e){if(!e.ctrlKey)return;e.preventDefault();var box=svg.getBoundingClientRect();
zoom(e.deltaY<0?1.25:.8,V.x0+((e.clientX-box.left)*W/box.width-L)/(W-L-RIGHT)*(V.x1-V.x0),V.y1-((e.clientY-box.top)*H/box.height-TOP)/(H-TOP-BOTTOM)*(V.y1-V.y0))},{passive:false});
svg.addEventListener("keydown",function(e){var k=e.key,b=chosen<0?(roots[0]||0):chosen,s=D.parent[b]<0?roots:kids[D.parent[b]],i=s.indexOf(b);
if(k==="ArrowUp"&&D.parent[b]>=0)choose(chosen<0?b:D.parent[b]);
else if(k==="ArrowDown")choose(chosen<0?b:kids[b].length?kids[b].reduce(function(a,c){return D.lowest[c]<D.lowest[a]?c:a}):b);
else if(k==="ArrowLeft")choose(s[Math.max(0,i-1)]);else if(k==="ArrowRight")choose(s[Math.min(s.length-1,i+1)]);
else if(k==="Enter")show(chosen);else if(k==="+"||k==="=")zoom(1.4);else if(k==="-")zoom(1/1.4);
else if(k==="0"||k==="Escape")show(-1);else return;e.preventDefault()});
tools.addEventListener("click",function(e){var d=e.target.dataset.do;if(d==="in")zoom(1.4);else if(d==="out")zoom(1/1.4);
else if(d==="all"){level.value=level.max;count.value=1;choose(-1);show(-1)}else if(d==="up"&&chosen>=0){choose(Math.max(D.parent[chosen],0));show(chosen)}});
find.addEventListener("keydown",function(e){if(e.key==="Enter"){e.preventDefault();search()}});find.addEventListener("change",search);
level.addEventListener("input",draw);count.addEventListener("input",draw);if(colour)colour.addEventListener("change",draw);
if(window.ResizeObserver){var last=0;new ResizeObserver(function(){if(root.clientWidth!==last){last=root.clientWidth;draw()}}).observe(root)}else draw()}
document.querySelectorAll(".dg:not([data-ready])").forEach(function(root){root.dataset.ready=1;explore(root)})})();
